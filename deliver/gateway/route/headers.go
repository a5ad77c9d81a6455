package route

import (
	"net/http"
	"slices"
	"strings"

	"github.com/chappe/chappe/internal/rfc9111"
)

// Request headers that clients cannot set: they say who the client is, which
// upstreams believe, or have upstreams answer something else than what the
// URL says. Those in front of which stands a proxy of ours set them anew.
var identity = []string{
	"Cf-Connecting-Ip", "Client-Ip", "Fastly-Client-Ip", "Forwarded", "Remote-User", "True-Client-Ip", "X-Client-Ip",
	"X-Cluster-Client-Ip", "X-Custom-Ip-Authorization", "X-Originating-Ip", "X-Proxyuser-Ip", "X-Real-Ip", "X-Remote-Addr",
	"X-Remote-Ip", "X-Remote-User", "X-Webauth-User", "X-Authenticated-User", "X-User", "X-User-Id", "Front-End-Https",
}

// identityPrefixes begin the names of more such headers.
var identityPrefixes = []string{"X-Forwarded", "X-Auth-Request-", "X-Ssl-", "X-Client-Cert", "Ssl-Client-", "X-Envoy-", "X-Authentik-", "Remote-", "Tailscale-User-"}

// unkeyed are headers by which some upstreams answer another URL, host or
// method than the request's. They are removed from requests whose answer may be
// stored.
var unkeyed = []string{
	"Base-Url", "Destination", "Http-Url", "Profile", "Proxy", "Proxy-Host", "Proxy-Url", "Redirect", "Request-Uri", "Uri", "Url",
	"X-Backend", "X-Backend-Host", "X-Base-Url", "X-Host", "X-Http-Destinationurl", "X-Http-Host-Override", "X-Http-Method",
	"X-Http-Method-Override", "X-Http-Path-Override", "X-Invoke-Path", "X-Invoke-Query", "X-Matched-Path", "X-Method-Override", "X-Middleware-Prefetch",
	"X-Middleware-Subrequest", "X-Nextjs-Data", "X-Now-Route-Matches", "X-Original-Host", "X-Original-Uri", "X-Original-Url", "X-Override-Url", "X-Port", "X-Protocol",
	"X-Proxy-Host", "X-Proxy-Url", "X-Rewrite-Url", "X-Scheme", "X-Server-Name", "X-Uri", "X-Url", "X-Url-Scheme", "X-Wap-Profile",
}

// hop are the headers of one connection (RFC 9110 §7.6.1).
var hop = []string{
	"Connection", "Expect", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// conditional are headers about what the client has; the cache asks for itself.
var conditional = []string{"If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Range"}

// forbidden reports whether a header is never forwarded as a client sent it;
// name is canonical. An underscore is taken for a dash, as upstreams that make
// variables of headers do.
func forbidden(name string) bool {
	name = dashed(name)
	return slices.Contains(identity, name) || slices.Contains(hop, name) ||
		slices.ContainsFunc(identityPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

func dashed(name string) string {
	if strings.Contains(name, "_") {
		return http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	}
	return name
}

// Strip removes what clients cannot set. Nor can they make the upstream's
// connection HTTP/2: what comes on it then, nobody would look at.
func Strip(h http.Header) {
	for name := range h {
		if forbidden(name) && !slices.Contains(hop, name) { // which are net/http's
			delete(h, name)
		}
	}
	delete(h, "Http2-Settings")
	if strings.HasPrefix(strings.ToLower(h.Get("Upgrade")), "h2") {
		delete(h, "Upgrade")
		delete(h, "Connection")
	}
}

// names reports whether the header is one that the route keys by.
func (rt *Route) names(header string) bool {
	return slices.ContainsFunc(rt.Headers, func(h string) bool { return strings.EqualFold(h, header) })
}

// Outgoing is what of a request's headers goes upstream, if its answer may be
// stored. It fails, and nothing may be stored, if the request has a header that
// may change the answer in ways that nobody can know: an X- header that is not
// on any list, or one with an underscore, which may be taken for another.
func (rt *Route) Outgoing(in http.Header) (out http.Header, ok bool) {
	out = http.Header{}
	for name, values := range in {
		switch {
		case rt.names(name):
			copyKeyed(out, in, name) // also what Connection lists, or the answer would be another than the key says
		case rt.Decides() || forbidden(name) || slices.Contains(conditional, name) || slices.Contains(unkeyed, dashed(name)) || isListed(in, name):
		case name == "Cookie" || name == "Authorization" || name == "Via":
		case name == "Origin" && len(rt.CORS) > 0:
		case name == "Accept-Encoding" && rt.Compress:
		case strings.HasPrefix(name, "X-") || strings.Contains(name, "_"):
			return nil, false
		default:
			out[name] = values
		}
	}
	if rt.Authorization {
		copyKeyed(out, in, "Authorization")
	}
	if len(rt.Cookies) > 0 {
		if kept := keepCookies(Sent(in).Header("cookie"), rt.Cookies); kept != "" {
			out.Set("Cookie", kept)
		}
	}
	if rt.Decides() && !rt.Compress {
		out["Accept-Encoding"] = in["Accept-Encoding"]
		normaliseEncoding(out)
	}
	return out, true
}

// copyKeyed copies what is in the key as it is in the key: in one line, and an
// empty one as none.
func copyKeyed(out, in http.Header, name string) {
	if v := Sent(in).Header(name); v != "" {
		out[name] = []string{v}
	}
}

// isListed reports whether the header is the connection's (RFC 9110 §7.6.1).
func isListed(in http.Header, name string) bool {
	for option := range strings.SplitSeq(strings.Join(in["Connection"], ","), ",") {
		if strings.EqualFold(strings.TrimSpace(option), name) {
			return true
		}
	}
	return false
}

// normaliseEncoding has few different requests mean the same (RFC 9110 §12.5.3).
func normaliseEncoding(h http.Header) {
	gzip, br := rfc9111.AcceptsEncoding(strings.Join(h["Accept-Encoding"], ","))
	switch {
	case gzip && br:
		h.Set("Accept-Encoding", "br, gzip")
	case br:
		h.Set("Accept-Encoding", "br")
	case gzip:
		h.Set("Accept-Encoding", "gzip")
	default:
		delete(h, "Accept-Encoding")
	}
}

// Selecting are those of the headers that Vary names which can differ between
// two requests of one key: what is never forwarded, or is in the key, cannot.
func (rt *Route) Selecting(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case rt.names(name), forbidden(canonical), slices.Contains(unkeyed, canonical):
			return true
		case name == "accept-encoding":
			return rt.Compress
		case name == "authorization":
			return true // keyed, or never stored
		case name == "origin" && len(rt.CORS) > 0:
			return true
		}
		return rt.Decides() || name == "cookie" && len(rt.Cookies) > 0
	})
}

// Sent is a request by what of it goes upstream.
type Sent http.Header

// Header implements Request.
func (s Sent) Header(name string) string {
	values := s[http.CanonicalHeaderKey(name)]
	if len(values) == 1 {
		return values[0]
	}
	if name == "cookie" {
		return strings.Join(values, "; ") // RFC 9113 §8.2.3
	}
	return strings.Join(values, ",")
}

// FilterCookies leaves the route's own cookies in a header.
func (rt *Route) FilterCookies(h http.Header) {
	kept := keepCookies(Sent(h).Header("cookie"), rt.Cookies)
	h.Del("Cookie")
	if kept != "" {
		h.Set("Cookie", kept)
	}
}

// SetForwarded says what the client asked for, which is in the key.
func SetForwarded(h http.Header, k *Key) {
	scheme := "http"
	if k.Secure {
		scheme = "https"
	}
	h.Set("X-Forwarded-Proto", scheme)
	h.Set("X-Forwarded-Host", k.Host)
}

// AskedWith is what of a request's headers is needed to ask again: what is
// keyed, and what selects. It is nil if that is nothing.
func (rt *Route) AskedWith(out http.Header, selecting []string) http.Header {
	var h http.Header
	for name, values := range out {
		low := strings.ToLower(name)
		if rt.names(name) || slices.Contains(selecting, low) || low == "cookie" || low == "authorization" || rt.Decides() && low == "accept-encoding" {
			if h == nil {
				h = http.Header{}
			}
			h[name] = values
		}
	}
	return h
}
