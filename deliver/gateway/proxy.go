package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/internal/clientip"
	"github.com/chappe/chappe/internal/rfc9111"
)

// passing is what the proxy knows of a request that is passed on.
type passing struct {
	route  *route.Route
	status rfc9111.Status
	key    route.Key
	header http.Header // of the request
	begun  time.Time
}

type passingKey struct{}

func passingOf(r *http.Request) *passing { return r.Context().Value(passingKey{}).(*passing) }

// forward passes a request on, whose answer is not stored.
func (g *Gateway) forward(w http.ResponseWriter, r *http.Request, rt *route.Route, status rfc9111.Status) {
	g.place(rt).passes.Inc()
	p := &passing{rt, status, rt.Key(g.isSecure(r), r.Host, route.Target(r), route.Sent(r.Header)), r.Header, time.Now()}
	g.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), passingKey{}, p)))
}

// newProxy makes what passes requests on.
func (g *Gateway) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        g.rewrite,
		Transport:      transport{g},
		ModifyResponse: g.passedOn,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			rt := passingOf(r).route
			g.place(rt).failures.Inc()
			g.fail(w, r, rt, err)
		},
		ErrorLog: slog.NewLogLogger(g.options.Logger.Handler(), slog.LevelDebug),
	}
}

// transport sends requests to the upstream of their route.
type transport struct{ g *Gateway }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.g.place(passingOf(r).route).pool.RoundTrip(r)
}

// rewrite makes the request for the upstream: who the client is says nobody
// but us.
func (g *Gateway) rewrite(pr *httputil.ProxyRequest) {
	p := passingOf(pr.In)
	out := pr.Out
	route.Strip(out.Header)
	if p.route.Decides() {
		p.route.FilterCookies(out.Header)
	}
	out.URL.RawQuery = pr.In.URL.RawQuery // also what cannot be parsed
	out.Host = ""
	if p.route.KeepHost {
		out.Host = p.key.Host
	}
	route.SetForwarded(out.Header, &p.key)
	if addr := clientip.From(pr.In, g.options.TrustedProxies); addr.IsValid() {
		out.Header.Set("X-Forwarded-For", addr.String())
		out.Header.Set("X-Real-Ip", addr.String())
	}
	out.Header.Add("Via", "1.1 "+g.via) // RFC 9110 §7.6.3
}

// passedOn looks at the answer to a request that was passed on: what it makes
// invalid is asked for anew (RFC 9111 §4.4) before the client has the answer.
func (g *Gateway) passedOn(res *http.Response) error {
	p := passingOf(res.Request)
	if res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	if rfc9111.Invalidates(res.Request.Method, res.StatusCode) {
		g.invalidate(g.invalidated(p.key, res), soft)
	}
	if res.Request.Method == http.MethodPost {
		if err := g.keepPosted(p, res); err != nil {
			return err
		}
	}
	removeTags(res.Header)
	p.route.MarkCORS(res.Header, p.header.Get("Origin"))
	p.status.ForwardStatus = res.StatusCode
	res.Header.Add("Cache-Status", p.status.String())
	return nil
}

// invalidated is what an answer to an unsafe request makes invalid.
func (g *Gateway) invalidated(k route.Key, res *http.Response) []tag {
	tags := []tag{{nil, tagTarget, k.Target}}
	for _, u := range rfc9111.AlsoInvalidated(clientURL(k, res.Request), res.Header) {
		tags = append(tags, tag{nil, tagTarget, u.RequestURI()})
	}
	for _, name := range k.Groups(rfc9111.GroupInvalidation(res.Header)) {
		tags = append(tags, tag{nil, tagGroup, name})
	}
	return tags
}

// clientURL is what the client asked for.
func clientURL(k route.Key, r *http.Request) *url.URL {
	u := *r.URL
	u.Scheme, u.Host = "http", k.Host
	if k.Secure {
		u.Scheme = "https"
	}
	return &u
}

// asGET reports whether a GET with the same headers would send them all, but
// for those about the body: then none has changed the answer that a GET could not.
func asGET(header, out http.Header) bool {
	for name, values := range header {
		switch name {
		case "Content-Type", "Content-Length":
		case "Connection":
			if !strings.EqualFold(strings.Join(values, ","), "keep-alive") { // what it lists is not sent on
				return false
			}
		default:
			if out[name] == nil {
				return false
			}
		}
	}
	return true
}

// keepPosted stores the answer to a POST that is one to a GET of the same URL
// as well, as its Content-Location says (RFC 9110 §9.3.3).
func (g *Gateway) keepPosted(p *passing, res *http.Response) error {
	here := http.Header{"Content-Location": res.Header["Content-Location"]}
	also := rfc9111.AlsoInvalidated(clientURL(p.key, res.Request), here)
	out, known := p.route.Outgoing(p.header)
	if !known || !asGET(p.header, out) || len(also) == 0 || also[0].RequestURI() != p.key.Target || route.Ambiguous(res.Request.URL.EscapedPath()) {
		return nil
	}
	x := &rfc9111.Exchange{Method: http.MethodPost, Request: p.header, Status: res.StatusCode, Response: res.Header, Requested: p.begun, Received: time.Now()}
	if _, storable, _ := rfc9111.Judge(x, p.route.Policy); !storable {
		return nil
	}
	started := g.store.begin() // after what it invalidates
	defer g.store.end()
	body, whole, err := g.read(res)
	switch {
	case err != nil:
		return err
	case whole:
		f := &flight{key: flightKey{key: p.key.Clone()}, out: out}
		g.keep(f, started, x, body, nil)
		p.status.Stored = true
		res.Body = io.NopCloser(bytes.NewReader(body))
	}
	return nil
}
