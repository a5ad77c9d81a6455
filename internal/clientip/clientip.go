// Package clientip finds the address that a request comes from behind
// proxies that are trusted to name it.
package clientip

import (
	"net/http"
	"net/netip"
	"strings"
)

// From is the peer's address; or, where the peer is a trusted proxy, the
// rightmost address in X-Forwarded-For that is not one. What stands left of
// it anyone may have written.
func From(r *http.Request, trusted []netip.Prefix) netip.Addr {
	port, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // a Unix socket
	}
	return Of(port.Addr(), strings.Join(r.Header.Values("X-Forwarded-For"), ","), trusted)
}

// Of is From with the peer and what X-Forwarded-For says, its lines joined by
// commas. A peer that is not valid is that of a Unix socket.
func Of(peer netip.Addr, forwarded string, trusted []netip.Prefix) netip.Addr {
	addr := peer.Unmap()
	if forwarded == "" || !Trusted(addr, trusted) {
		return addr
	}
	hops := strings.Split(forwarded, ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			return addr
		}
		if addr = hop.Unmap(); !Trusted(addr, trusted) {
			return addr
		}
	}
	return addr
}

// Secure reports whether the client came by https, to us or to a proxy that is
// trusted to say so.
func Secure(r *http.Request, trusted []netip.Prefix) bool {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr) // a Unix socket has none, and is not trusted
	return r.TLS != nil || SaysSecure(peer.Addr(), strings.Join(r.Header.Values("X-Forwarded-Proto"), ","), trusted)
}

// SaysSecure is what a peer's X-Forwarded-Proto says, its lines joined by commas.
func SaysSecure(peer netip.Addr, proto string, trusted []netip.Prefix) bool {
	return strings.EqualFold(proto, "https") && Trusted(peer, trusted)
}

// Trusted reports whether the address is of a proxy that may say who the client is.
func Trusted(addr netip.Addr, trusted []netip.Prefix) bool {
	addr = addr.Unmap()
	for _, p := range trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
