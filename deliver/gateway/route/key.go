package route

import (
	"net"
	"net/http"
	"strconv"
	"strings"
)

// Key is what an answer is found by. Its parts are compared one by one, so no
// two requests share a key because their parts read the same when joined.
type Key struct {
	Route  *Route
	Secure bool   // the client came by https
	Host   string // normalised
	Target string // path and query as sent
	Extra  string // the values of the route's headers and cookies, each with its length
}

// Request is what the key and the selection of a variant need to know of a
// request, on the event loop or on net/http.
type Request interface {
	// Header is a field by its name in lower case; several are joined by commas.
	Header(name string) string
}

// Key is the key of a request for the route.
func (rt *Route) Key(secure bool, host, target string, r Request) Key {
	k := Key{Route: rt, Secure: secure, Host: NormalHost(host, secure), Target: target}
	if len(rt.keyed) == 0 && len(rt.Cookies) == 0 && !rt.Authorization {
		return k
	}
	var b []byte
	for _, name := range rt.keyed {
		b = appendPart(b, r.Header(name))
	}
	if rt.Authorization {
		b = appendPart(b, r.Header("authorization"))
	}
	if len(rt.Cookies) > 0 {
		b = appendPart(b, keepCookies(r.Header("cookie"), rt.Cookies))
	}
	k.Extra = string(b)
	return k
}

func appendPart(b []byte, s string) []byte {
	return append(append(strconv.AppendInt(b, int64(len(s)), 10), ':'), s...)
}

// NormalHost is a Host in lower case, without the scheme's own port and a final
// dot. It allocates only where there is something to change.
func NormalHost(host string, secure bool) string {
	host = lower(host)
	name, port, err := net.SplitHostPort(host)
	if err != nil || strings.Contains(name, ":") {
		return strings.TrimSuffix(host, ".")
	}
	name = strings.TrimSuffix(name, ".")
	if port == "" || port == "80" && !secure || port == "443" && secure {
		return name
	}
	if len(name)+1+len(port) == len(host) {
		return host
	}
	return name + ":" + port
}

func lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}

// keepCookies is the Cookie header with the named cookies alone, in the order
// of the names.
func keepCookies(header string, names []string) string {
	var kept []string
	for _, name := range names {
		for pair := range strings.SplitSeq(header, ";") {
			pair = strings.TrimSpace(pair)
			if n, _, ok := strings.Cut(pair, "="); ok && n == name {
				kept = append(kept, pair)
				break
			}
		}
	}
	return strings.Join(kept, "; ")
}

// plainer has a path as upstreams read it that decode it before they take it
// apart, or take backslashes for slashes.
var plainer = strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/", "%2F", "/", "%5c", "/", "%5C", "/", `\`, "/", "%3b", ";", "%3B", ";")

// HasDots reports whether a path as sent has a segment that is "." or "..", by
// whatever reading: what it means depends on who resolves it. Some servers take
// "..;x" for one, with a parameter.
func HasDots(path string) bool {
	if !strings.Contains(path, ".") && !strings.Contains(path, "%2") {
		return false
	}
	for segment := range strings.SplitSeq(plainer.Replace(path), "/") {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return true
		}
	}
	return false
}

// Ambiguous reports whether a cache and an upstream may take the path for
// different ones: nothing is stored under it.
func Ambiguous(path string) bool {
	if strings.ContainsAny(path, ";\\") || HasDots(path) {
		return true
	}
	for {
		_, after, found := strings.Cut(path, "%")
		if !found {
			return false
		}
		if len(after) >= 2 {
			switch strings.ToLower(after[:2]) {
			case "2f", "5c", "00", "0a", "0d", "3b", "3f", "23", "2e": // / \ NUL LF CR ; ? # .
				return true
			}
		}
		path = after
	}
}

// Clone is the key on its own, without what its parts were read with.
func (k Key) Clone() Key {
	k.Host, k.Target = strings.Clone(k.Host), strings.Clone(k.Target)
	return k
}

// Size is how many bytes the key has.
func (k *Key) Size() int { return len(k.Host) + len(k.Target) + len(k.Extra) }

// Groups are the names of groups of one origin: the same name of another's is
// another group (RFC 9875 §2).
func (k *Key) Groups(names []string) []string {
	origin := "http://" + k.Host + " "
	if k.Secure {
		origin = "https://" + k.Host + " "
	}
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = origin + name
	}
	return all
}

// Target is a request's path and query as sent (RFC 9112 §3.2.1, §3.2.2).
func Target(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") || r.RequestURI == "*" {
		return r.RequestURI
	}
	return r.URL.RequestURI()
}
