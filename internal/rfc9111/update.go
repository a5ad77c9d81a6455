package rfc9111

import (
	"net/http"
	"slices"
	"strings"
)

// Storable is the fields that are stored (RFC 9111 §3.1): all but those between
// us and the origin, and those that are for a proxy.
func Storable(h http.Header) http.Header {
	listed := connectionOptions(h)
	stored := make(http.Header, len(h))
	for name, values := range h {
		if !hopByHop(name) && !listed[name] {
			stored[name] = slices.Clone(values)
		}
	}
	return stored
}

// Update is the stored fields with those of a 304, or of the response to a HEAD,
// in place of the old ones (RFC 9111 §3.2). Fields that tell what the stored
// bytes are stay. So does everything if the response is about another
// representation, which the caller should have found by Freshens. Set-Cookie is
// left out: it is for one client.
func Update(stored, fresh http.Header) http.Header {
	updated := stored.Clone()
	if updated == nil {
		updated = http.Header{}
	}
	if !Freshens(stored, fresh) {
		return updated
	}
	// The old age and date were those of the old response: with them a response
	// that was just validated could be stale.
	delete(updated, "Age")
	delete(updated, "Date")
	for name, values := range Storable(fresh) {
		switch name {
		case "Content-Length", "Content-Encoding", "Content-Range", "Set-Cookie":
		default:
			updated[name] = values
		}
	}
	return updated
}

// hopByHop as in RFC 9110 §7.6.1 and RFC 9111 §3.1.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization":
		return true
	}
	return false
}

// connectionOptions are the fields that Connection lists, by canonical name.
func connectionOptions(h http.Header) map[string]bool {
	lines := h.Values("Connection")
	if len(lines) == 0 {
		return nil
	}
	listed := make(map[string]bool)
	for _, line := range lines {
		for option := range strings.SplitSeq(line, ",") {
			listed[http.CanonicalHeaderKey(trim(option))] = true
		}
	}
	return listed
}
