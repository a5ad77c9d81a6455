package account

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Origins says which pages may reach us.
type Origins struct {
	Base        *url.URL // base_url; nil without
	Allowed     []string // allowed_origins: "https://app.example"
	Credentials bool     // their pages may send the application's cookie
}

// ours reports whether origin is our own: base_url's, or the request's host
// where there is none (then a proxy may have ended TLS, and either scheme is).
func (o Origins) ours(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" {
		return false
	}
	if o.Base != nil && strings.EqualFold(u.Scheme, o.Base.Scheme) && sameHost(u.Host, o.Base.Host, u.Scheme) {
		return true
	}
	if o.Base != nil && !localHost(r.Host) {
		return false
	}
	return (u.Scheme == "http" || u.Scheme == "https") && sameHost(u.Host, r.Host, u.Scheme)
}

func sameHost(a, b, scheme string) bool {
	return strings.EqualFold(withPort(a, scheme), withPort(b, scheme))
}

func withPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	if scheme == "https" {
		return net.JoinHostPort(strings.Trim(host, "[]"), "443")
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), "80")
}

// May reports whether a page of that origin may use the API.
func (o Origins) May(r *http.Request, origin string) bool {
	return o.ours(r, origin) || o.listed(origin)
}

func (o Origins) listed(origin string) bool {
	for _, a := range o.Allowed {
		if strings.EqualFold(a, origin) {
			return true
		}
	}
	return false
}

// CheckWebSocket returns an *AuthError for an upgrade that a foreign page
// asks for. WebSocket knows no CORS: this check is all there is (RFC 6455 §10.2).
func (o Origins) CheckWebSocket(r *http.Request) error {
	origin := r.Header.Get("Origin")
	switch {
	case origin == "" && r.Header.Get("Cookie") == "": // no browser
		return nil
	case origin == "":
		return refuse("origin-refused", "a WebSocket with a cookie needs an Origin")
	case o.May(r, origin):
		return nil
	}
	return refuse("origin-refused", "pages of %q may not connect; server.allowed_origins lists those that may", origin)
}

// CheckStream returns an *AuthError for a GET that a foreign page began, even
// one that could not read the answer.
func (o Origins) CheckStream(r *http.Request) error {
	origin := r.Header.Get("Origin")
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case site == "same-origin" || site == "none":
		return nil
	case site == "" && origin == "":
		return nil
	case origin != "" && o.May(r, origin):
		return nil
	}
	return refuse("origin-refused", "pages of %q may not read this; server.allowed_origins lists those that may", origin)
}

// fromOurPages reports whether the browser says that the request comes from
// our own page, which a request with the console's cookie must.
func (o Origins) fromOurPages(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	origin := r.Header.Get("Origin")
	return origin != "" && o.ours(r, origin)
}

// secure reports whether the browser will keep a Secure cookie.
func (o Origins) secure(r *http.Request) bool {
	if localHost(r.Host) {
		return true
	}
	return r.TLS != nil || o.Base != nil && o.Base.Scheme == "https"
}

// CheckHost reports whether a request's Host is one of ours: base_url's, an
// address, or localhost. A name that someone points at us is not.
func (o Origins) CheckHost(host string) bool {
	host = hostname(host)
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return true
	}
	return o.Base != nil && host == strings.ToLower(o.Base.Hostname())
}

// hostname is the name in a Host header: without port, final dot and capitals.
func hostname(host string) string {
	u := url.URL{Host: host}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
}

func localHost(host string) bool {
	name := hostname(host)
	addr, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && addr.IsLoopback()
}
