package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/chappe/chappe/deliver/gateway/route"
)

// scenario is requests one after the other, and what the origin answers.
type scenario struct {
	law   string // what says so
	route route.Config
	steps []step
}

// step is a request. Fields are names and values in turn.
type step struct {
	method string   // GET if not given
	path   string   // "/" if not given
	send   []string // the request's fields
	status int      // the origin's; 200 if not given
	give   []string // the origin's fields; its body is the number of the step
	cut    bool     // the origin cuts the connection in place of an answer

	from   int      // whose body the client gets; this step's own if not given
	stored bool     // the origin is not asked
	behind bool     // the origin is asked, but not waited for
	code   int      // what the client gets; the origin's status if not given
	has    []string // the answer's fields, by the beginning of their value; "" there is none
	told   []string // the same of the request at the origin
}

const noBody = -1 // in from

var fresh = []string{"Cache-Control", "max-age=3600"}

// aged is max-age=3600 and so many seconds gone.
func aged(seconds int, more ...string) []string {
	return append([]string{"Age", fmt.Sprint(seconds), "Cache-Control", "max-age=3600"}, more...)
}

// stale has a validator and no time left.
func stale(more ...string) []string { return aged(7200, append([]string{"Etag", `"v"`}, more...)...) }

// actor is an origin that answers as the current step says.
type actor struct {
	mu   sync.Mutex
	n    int
	step step
}

func (a *actor) play(n int, s step) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n, a.step = n, s
}

func (a *actor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	n, s := a.n, a.step
	a.mu.Unlock()
	_, _ = io.Copy(io.Discard, r.Body)
	if s.cut {
		panic(http.ErrAbortHandler)
	}
	for i := 0; i < len(s.give); i += 2 {
		if s.give[i] == "Date" && s.give[i+1] == "" {
			w.Header()["Date"] = nil
			continue
		}
		w.Header().Add(s.give[i], s.give[i+1])
	}
	if s.status != 0 {
		w.WriteHeader(s.status)
	}
	if s.status != http.StatusNotModified && s.status != http.StatusNoContent {
		_, _ = fmt.Fprintf(w, "body %d", n)
	}
}

func runScenarios(t *testing.T, all []scenario) {
	onBoth(t, func(t *testing.T, start starter) {
		for _, sc := range all {
			t.Run(sc.law, func(t *testing.T) {
				a := &actor{}
				s := start(t, a, sc.route, nil)
				for i, st := range sc.steps {
					a.play(i+1, st)
					st.run(t, s, i+1)
				}
			})
		}
	})
}

func (st step) run(t *testing.T, s *site, n int) {
	t.Helper()
	method, path := st.method, st.path
	if method == "" {
		method = http.MethodGet
	}
	if path == "" {
		path = "/"
	}
	before := s.asked()
	a := s.do(t, method, path, "", st.send...)
	if st.behind {
		await(t, "the fetch behind", func() bool { return s.asked() > before })
	}
	code := st.code
	if code == 0 {
		code = max(st.status, http.StatusOK)
	}
	body := fmt.Sprint("body ", n)
	switch {
	case st.from == noBody || method == http.MethodHead:
		body = ""
	case st.from > 0:
		body = fmt.Sprint("body ", st.from)
	case code >= 500 && st.status == 0:
		body = a.body // ours
	}
	if a.status != code || a.body != body {
		t.Errorf("step %d: %d %q, want %d %q; %v", n, a.status, a.body, code, body, a.header)
	}
	if asked := s.asked() > before; asked == st.stored {
		t.Errorf("step %d: the origin was asked = %v; %v", n, asked, a.header)
	}
	wantFields(t, fmt.Sprintf("step %d: answer", n), a.header, st.has)
	if len(st.told) > 0 && s.asked() > before {
		wantFields(t, fmt.Sprintf("step %d: request", n), s.last(t).Header, st.told)
	}
}

func wantFields(t *testing.T, what string, h http.Header, fields []string) {
	t.Helper()
	for i := 0; i < len(fields); i += 2 {
		name, want := fields[i], fields[i+1]
		got := strings.Join(h[http.CanonicalHeaderKey(name)], ", ")
		if want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s is %q, want %q", what, name, got, want)
		}
	}
}

// kept is two requests, the second of which is answered from the store.
func kept(law string, give ...string) scenario {
	return scenario{law: law, steps: []step{{give: give}, {give: give, from: 1, stored: true}}}
}

// notKept is two requests that the origin answers.
func notKept(law string, give ...string) scenario {
	return scenario{law: law, steps: []step{{give: give}, {give: give}}}
}
