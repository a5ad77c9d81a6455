package clientip_test

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"testing"

	"github.com/chappe/chappe/internal/clientip"
)

func TestFrom(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	tests := []struct {
		name, remote string
		forwarded    []string
		want         string // "": none
	}{
		{"no proxy", "203.0.113.9:1234", nil, "203.0.113.9"},
		{"header of a stranger", "203.0.113.9:1234", []string{"198.51.100.1"}, "203.0.113.9"},
		{"behind a proxy", "127.0.0.1:1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"behind a proxy over IPv6", "[::1]:1", []string{"2001:db8::9"}, "2001:db8::9"},
		{"mapped peer", "[::ffff:127.0.0.1]:1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"mapped hop", "127.0.0.1:1", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"spoofed left", "127.0.0.1:1", []string{"198.51.100.1, 203.0.113.9"}, "203.0.113.9"},
		{"spoofed as a proxy", "127.0.0.1:1", []string{"198.51.100.1, 10.0.0.1, 203.0.113.9"}, "203.0.113.9"},
		{"two proxies", "127.0.0.1:1", []string{"198.51.100.1, 203.0.113.9 , 10.0.0.1"}, "203.0.113.9"},
		{"two header lines", "127.0.0.1:1", []string{"198.51.100.1, 203.0.113.9", "10.0.0.1"}, "203.0.113.9"},
		{"spoofed in the first line", "127.0.0.1:1", []string{"198.51.100.1", "203.0.113.9"}, "203.0.113.9"},
		{"nonsense on the right", "127.0.0.1:1", []string{"203.0.113.9, unknown"}, "127.0.0.1"},
		{"nonsense behind a second proxy", "127.0.0.1:1", []string{"203.0.113.9, x, 10.0.0.1"}, "10.0.0.1"},
		{"with a port", "127.0.0.1:1", []string{"203.0.113.9:80"}, "127.0.0.1"},
		{"empty header", "127.0.0.1:1", []string{""}, "127.0.0.1"},
		{"proxy without a header", "127.0.0.1:1", nil, "127.0.0.1"},
		{"proxies alone", "127.0.0.1:1", []string{"10.0.0.2, 10.0.0.1"}, "10.0.0.2"},
		{"Unix socket", "@", []string{"203.0.113.9"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.remote, Header: http.Header{"X-Forwarded-For": tt.forwarded}}
			want := netip.Addr{}
			if tt.want != "" {
				want = netip.MustParseAddr(tt.want)
			}
			if got := clientip.From(r, trusted); got != want {
				t.Errorf("From = %v, want %v", got, want)
			}
		})
	}
}

func TestNobodyIsTrusted(t *testing.T) {
	r := &http.Request{RemoteAddr: "127.0.0.1:1", Header: http.Header{"X-Forwarded-For": {"203.0.113.9"}}}
	if got := clientip.From(r, nil); got != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("From = %v, want the peer", got)
	}
}

func TestSecure(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, tt := range []struct {
		name, remote string
		tls          *tls.ConnectionState
		proto        []string
		want         bool
	}{
		{"plain", "127.0.0.1:1", nil, nil, false},
		{"our own TLS", "203.0.113.9:1", &tls.ConnectionState{}, nil, true},
		{"a proxy says so", "127.0.0.1:1", nil, []string{"HTTPS"}, true},
		{"a stranger says so", "203.0.113.9:1", nil, []string{"https"}, false},
		{"a proxy says both", "127.0.0.1:1", nil, []string{"https", "http"}, false},
		{"Unix socket", "@", nil, []string{"https"}, false},
	} {
		r := &http.Request{RemoteAddr: tt.remote, TLS: tt.tls, Header: http.Header{"X-Forwarded-Proto": tt.proto}}
		if got := clientip.Secure(r, trusted); got != tt.want {
			t.Errorf("%s: Secure = %v", tt.name, got)
		}
	}
}
