package head

import (
	"bytes"
	"net/http"
	"net/netip"
)

// requestLine reads the line at r.head[at] and returns where the next begins.
func (r *Request) requestLine(at int) (int, error) {
	b := r.head
	i := at
	for i < len(b) && chars[b[i]]&isToken != 0 {
		i++
	}
	switch {
	case i-at > maxMethod: // RFC 9112 §3
		return 0, &Error{http.StatusNotImplemented, "method above 32 bytes"}
	case i == len(b):
		return 0, ErrIncomplete
	case i == at || b[i] != ' ':
		return 0, bad("malformed method")
	}
	r.Method = b[at:i]

	i++
	target := i
	for i < len(b) && chars[b[i]]&isTarget != 0 {
		i++
	}
	switch {
	case i-at > maxLine-len(" HTTP/1.1"):
		return 0, &Error{http.StatusRequestURITooLong, "request line above 8 KiB"}
	case i > target && chars[b[target]]&isTargetStart == 0:
		return 0, bad("target is neither a path nor a URL")
	case i == len(b):
		return 0, ErrIncomplete
	case i == target || b[i] != ' ':
		return 0, bad("malformed target")
	}
	r.Target = b[target:i]
	return r.version(i + 1)
}

// version reads the end of the request line from r.head[at] on, then looks at
// the target: in the preface of HTTP/2 it is one that is refused otherwise.
func (r *Request) version(at int) (int, error) {
	const form = "HTTP/1."
	v := r.head[at:min(len(r.head), at+len(form)+1)]
	name := min(len(v), len("HTTP/"))
	if string(v[:name]) != form[:name] {
		return 0, bad("malformed version")
	}
	if len(v) <= len(form) {
		return 0, ErrIncomplete
	}
	switch string(v) {
	case "HTTP/1.1":
		r.Minor = 1
	case "HTTP/1.0":
	case "HTTP/2.0":
		if string(r.Method) == "PRI" && string(r.Target) == "*" { // RFC 9113 §3.4
			return 0, ErrHTTP2
		}
		return 0, &Error{http.StatusHTTPVersionNotSupported, "HTTP/2 without its preface"}
	default:
		if chars[v[5]]&isDigit == 0 || v[6] != '.' || chars[v[7]]&isDigit == 0 {
			return 0, bad("malformed version")
		}
		return 0, &Error{http.StatusHTTPVersionNotSupported, "neither HTTP/1.1 nor HTTP/1.0"}
	}
	if err := r.splitTarget(); err != nil {
		return 0, err
	}
	return crlf(r.head, at+len(v))
}

// splitTarget fills in what the target says by its form (RFC 9112 §3.2).
func (r *Request) splitTarget() error {
	rest := r.Target
	switch {
	case string(r.Method) == "CONNECT":
		return bad("CONNECT is for proxies")
	case string(rest) == "*":
		if string(r.Method) != "OPTIONS" {
			return bad("target * is for OPTIONS")
		}
		r.Path = rest
		return nil
	case rest[0] != '/':
		n := schemeLen(rest)
		if n == 0 {
			return bad("target is neither a path nor a URL")
		}
		rest = rest[n:]
		end := bytes.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		if !validHost(rest[:end]) {
			return bad("malformed authority in the target")
		}
		r.Host, rest = rest[:end], rest[end:]
	}
	r.Path, r.Query = cut(rest, '?')
	return nil
}

func schemeLen(target []byte) int {
	for _, s := range []string{"http://", "https://"} {
		if len(target) >= len(s) && is(target[:len(s)], s) {
			return len(s)
		}
	}
	return 0
}

// validHost tells whether b is a host and perhaps a port. It knows names of
// unreserved characters, IPv4 and IPv6 addresses: no user, no %XX, no empty
// port, which RFC 3986 would allow and no client sends.
func validHost(b []byte) bool {
	end := 0
	if len(b) > 0 && b[0] == '[' {
		end = bytes.IndexByte(b, ']') + 1
		if end == 0 {
			return false
		}
		addr, err := netip.ParseAddr(string(b[1 : end-1]))
		if err != nil || addr.Is4() || addr.Zone() != "" {
			return false
		}
	} else {
		for end < len(b) && chars[b[end]]&isHost != 0 {
			end++
		}
	}
	if end == 0 || end == len(b) {
		return end > 0
	}
	_, ok := number(b[end+1:], 1<<16-1)
	return b[end] == ':' && ok
}
