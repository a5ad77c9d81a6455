package route

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/rfc9111"
)

// Route is a Config made ready.
type Route struct {
	Config
	Index      int            // among the configured
	Policy     rfc9111.Policy // of what is kept
	keyed      []string       // Headers in lower case, sorted
	tags       []template
	refreshTag []template
}

// New makes the route of a Config that is valid.
func New(index int, c Config) (*Route, error) {
	rt := &Route{Config: c, Index: index}
	if rt.Name == "" {
		rt.Name = rt.Host + rt.Path
	}
	rt.Policy = rfc9111.Policy{
		TTL: c.TTL, ForceTTL: c.ForceTTL, StaleWhileRevalidate: c.StaleWhileRevalidate, StaleIfError: c.StaleIfError,
		Authorization: c.Authorization, Cookies: len(c.Cookies) > 0,
	}
	for _, name := range c.Headers {
		rt.keyed = append(rt.keyed, strings.ToLower(name))
	}
	slices.Sort(rt.keyed)
	rt.keyed = slices.Compact(rt.keyed)
	var err error
	if rt.tags, err = parseAll(c.Tag, c.isRequestField); err != nil {
		return nil, err
	}
	rt.refreshTag, err = parseAll(c.RefreshTag, isEventField)
	return rt, err
}

// Tags are the route's own tags of an answer.
func (rt *Route) Tags(k *Key, out http.Header) []string {
	return expandAll(rt.tags, requestField(k, Sent(out).Header))
}

// StaleTags are the tags that an event makes stale.
func (rt *Route) StaleTags(e *event.Event) []string { return expandAll(rt.refreshTag, eventField(e)) }

func parseAll(texts []string, known func(string) bool) ([]template, error) {
	var all []template
	for _, s := range texts {
		t, err := parseTemplate(s, known)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// Decides reports whether the operator said how long answers are kept. Then
// clients cannot ask for fresher ones, and only named headers go upstream.
func (rt *Route) Decides() bool { return rt.TTL > 0 || rt.ForceTTL > 0 }

// Allows reports whether the route answers the method.
func (rt *Route) Allows(method string) bool {
	return len(rt.Methods) == 0 || slices.Contains(rt.Methods, method) ||
		method == http.MethodHead && slices.Contains(rt.Methods, http.MethodGet) // RFC 9110 §9.1
}

// matches reports whether a path as sent is the route's.
func (rt *Route) matches(path string) bool {
	if strings.HasSuffix(rt.Path, "/") {
		return strings.HasPrefix(path, rt.Path)
	}
	return path == rt.Path
}

// Table finds the route of a request: those of a host first, then the longest
// path.
type Table struct {
	routes   []*Route // the longest path first
	hosts    bool     // some have a host
	reserved []string // paths that are the program's own, without a slash at the end exactly these
}

// NewTable makes a table; reserved are the program's own paths, which no route
// without a host takes: one that ends in a slash with all below it.
func NewTable(routes []*Route, reserved []string) Table {
	t := Table{routes: slices.Clone(routes), reserved: reserved}
	slices.SortStableFunc(t.routes, func(a, b *Route) int { return len(b.Path) - len(a.Path) })
	t.hosts = slices.ContainsFunc(routes, func(rt *Route) bool { return rt.Host != "" })
	return t
}

// Find returns nil if the request is nobody's. Target is the path, with or
// without a query, as sent.
func (t *Table) Find(secure bool, host, target string) *Route {
	if len(t.routes) == 0 {
		return nil
	}
	path, _, _ := strings.Cut(target, "?")
	if t.hosts {
		host = NormalHost(host, secure)
		for _, rt := range t.routes {
			if rt.Host != "" && rt.Host == host && rt.matches(path) {
				return rt
			}
		}
	}
	for _, rt := range t.routes {
		if rt.Host == "" && rt.matches(path) && !t.isReserved(path) {
			return rt
		}
	}
	return nil
}

// isReserved reports whether the path is the program's own.
func (t *Table) isReserved(path string) bool {
	for _, own := range t.reserved {
		if path == own || strings.HasSuffix(own, "/") && strings.HasPrefix(path, own) {
			return true
		}
	}
	return false
}

// CheckAll checks what several routes say together; reserved are the
// program's own paths.
func CheckAll(routes []Config, reserved []string) error {
	type place struct{ host, path string }
	seen, names := map[place]bool{}, map[string]bool{}
	own := Table{reserved: reserved}
	for i, r := range routes {
		at := fmt.Sprintf("routes[%d]", i)
		switch {
		case seen[place{r.Host, r.Path}]:
			return fmt.Errorf("%s.path: two routes have %s%s; keep one", at, r.Host, r.Path)
		case r.Name != "" && names[r.Name]:
			return fmt.Errorf("%s.name: two routes are named %s; give each its own", at, r.Name)
		case r.Host == "" && own.isReserved(r.Path):
			return fmt.Errorf("%s.path: %s is the program's own; take another, or give the route a host", at, r.Path)
		}
		seen[place{r.Host, r.Path}], names[r.Name] = true, true
	}
	return nil
}
