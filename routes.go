package main

import (
	"maps"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/chappe/chappe/account"
	chappejs "github.com/chappe/chappe/client" // client is what publish and tail use
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/problem"
)

// answerTime is how long an answer that is no stream may take to be taken.
const answerTime = time.Minute

// routes is every URL of the server.
func (srv *server) routes() http.Handler {
	mux := http.NewServeMux()
	cors := srv.access.Origins.CORS
	form := http.NewCrossOriginProtection().Handler

	mux.Handle("GET /v1/stream", cors(http.HandlerFunc(srv.hub.Stream)))
	mux.Handle("GET /v1/poll", cors(http.HandlerFunc(srv.hub.Poll)))
	mux.Handle("GET /v1/ws", http.HandlerFunc(srv.hub.WebSocket))
	mux.Handle("/v1/", cors(timely(srv.api)))

	mux.Handle("GET /connection/websocket", http.HandlerFunc(srv.clients.WebSocket))
	mux.Handle("POST /connection/http_stream", cors(http.HandlerFunc(srv.clients.Stream)))
	mux.Handle("GET /connection/sse", cors(http.HandlerFunc(srv.clients.SSE)))
	mux.Handle("POST /emulation", cors(http.HandlerFunc(srv.clients.Emulation)))
	mux.Handle("OPTIONS /connection/", cors(http.NotFoundHandler()))
	mux.Handle("OPTIONS /emulation", cors(http.NotFoundHandler()))

	pages := trimSlash(srv.settings.Server.consolePath())
	mux.Handle("GET "+pages+"/{$}", timely(http.HandlerFunc(srv.console.Live)))
	mux.Handle("POST "+pages+"/login", timely(form(http.HandlerFunc(srv.console.LogIn))))
	mux.Handle("POST "+pages+"/logout", timely(form(http.HandlerFunc(srv.console.LogOut))))
	mux.Handle("GET "+pages+"/assets/", timely(http.StripPrefix(pages+"/assets", http.HandlerFunc(srv.console.Asset))))

	mux.Handle("GET /chappe.js", timely(chappejs.Handler()))

	mux.Handle("GET /healthz", timely(http.HandlerFunc(srv.healthz)))
	mux.Handle("GET /readyz", timely(http.HandlerFunc(srv.readyz)))
	mux.Handle("GET /metrics", timely(srv.adminOnly(promhttp.HandlerFor(srv.registry, promhttp.HandlerOpts{}))))

	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, problem.New("not-found", "There is no "+r.Method+" "+r.URL.Path))
	})

	return srv.routed(srv.mounted(srv.knownHost(headers(mux))))
}

// reserved are the paths that no route without a host takes: one that ends in
// a slash, with all below it.
func (s settings) reserved() []string {
	own := []string{"/v1/", "/connection/", "/emulation", "/chappe.js", "/healthz", "/readyz", "/metrics"}
	if pages := trimSlash(s.Server.consolePath()); pages == "" {
		own = append(own, "/login", "/logout", "/assets/")
	} else {
		own = append(own, pages, pages+"/")
	}
	base, err := url.Parse(s.Server.BaseURL)
	if err != nil || trimSlash(base.Path) == "" {
		return own
	}
	for _, p := range slices.Clone(own) {
		own = append(own, trimSlash(base.Path)+p)
	}
	return own
}

// routed has the gateway answer what is its routes', whatever the host.
func (srv *server) routed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if srv.gateway.Match(r) {
			srv.gateway.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// timely gives an answer a deadline; streams set their own.
func timely(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime)) // refused by recorders only
		next.ServeHTTP(w, r)
	})
}

// always is the header of every answer.
func always() http.Header {
	return http.Header{"X-Content-Type-Options": {"nosniff"}, "Referrer-Policy": {"no-referrer"}}
}

func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), always())
		next.ServeHTTP(w, r)
	})
}

// waitOnLoop has the front handle what waits; the same paths stand in routes,
// for HTTP/2 and for systems where the front has no sockets.
func (srv *server) waitOnLoop() {
	srv.front.Prepare(srv.prepared)
	srv.front.Handle("/v1/stream", srv.hub.ServeStream)
	srv.front.Handle("/v1/poll", srv.hub.ServePoll)
	srv.front.Handle("/v1/ws", srv.hub.ServeWebSocket)
	srv.front.Handle("/connection/websocket", srv.clients.ServeWebSocket)
	srv.front.HandlePost("/connection/http_stream", srv.clients.ServeStream)
	srv.front.Handle("/connection/sse", srv.clients.ServeSSE)
	srv.front.HandlePost("/emulation", srv.clients.ServeEmulation)
}

// knownHost refuses names that are not ours: a foreign name that resolves to
// us would make a foreign page same-origin (DNS rebinding).
func (srv *server) knownHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !srv.access.Origins.CheckHost(r.Host) {
			problem.Write(w, problem.New("host-refused", "This server is not known as "+r.Host+"; server.base_url says what it is known as"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// mounted serves below base_url's path as well as at the root: a proxy may
// take the path away or leave it.
func (srv *server) mounted(next http.Handler) http.Handler {
	if srv.base == nil || trimSlash(srv.base.Path) == "" {
		return next
	}
	prefix := trimSlash(srv.base.Path)
	below := http.StripPrefix(prefix, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == prefix:
			w.Header().Set("Location", prefix+"/")
			w.WriteHeader(http.StatusMovedPermanently)
		case strings.HasPrefix(r.URL.Path, prefix+"/"):
			below.ServeHTTP(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func trimSlash(s string) string { return strings.TrimRight(s, "/") }

// adminOnly asks for an admin token: behind a proxy on the same machine
// everybody comes from loopback.
func (srv *server) adminOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := srv.access.Identify(r)
		if err != nil {
			problem.Write(w, problem.From(err))
			return
		}
		switch {
		case id.May(account.ScopeAdmin):
			next.ServeHTTP(w, r)
		case id.Known():
			problem.Write(w, problem.New("forbidden", "This token lacks the scope admin"))
		default:
			problem.Write(w, problem.New("token-missing", "Send an API token with the scope admin, or listen for metrics alone on server.metrics"))
		}
	})
}

// alive is the answer of /healthz, which probes and balancers ask for often.
var alive = front.Answer{
	Head: []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: 3\r\n" +
		"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"),
	Body: []byte("ok\n"),
}

// prepared are the answers that need no making.
func (srv *server) prepared(x *front.Exchange) (front.Answer, bool) {
	if x.KnownHost() && string(x.Path()) == "/healthz" {
		return alive, true
	}
	return srv.gateway.Prepare(x)
}

// healthz says that the process answers.
func (srv *server) healthz(w http.ResponseWriter, _ *http.Request) { answerOK(w) }

// readyz says that watches are started and the last publish was stored.
func (srv *server) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := srv.bus.Err(); err != nil {
		problem.Write(w, problem.From(err))
		return
	}
	if !srv.ready.Load() {
		problem.Write(w, problem.New("closing", "The server is starting or stopping."))
		return
	}
	answerOK(w)
}

func answerOK(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n")) // the client may have gone
}

// serveMetrics listens on server.metrics, where it is configured, for what
// must not be reached from outside.
func (srv *server) serveMetrics(failed chan<- error) (*http.Server, error) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(srv.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headTime, IdleTimeout: idleTime}
	if srv.settings.Server.Metrics == "" {
		return server, nil
	}
	listener, err := net.Listen("tcp", srv.settings.Server.Metrics)
	if err != nil {
		return nil, configError{err}
	}
	go func() { failed <- server.Serve(listener) }() // ended by run's Shutdown or Close
	return server, nil
}
