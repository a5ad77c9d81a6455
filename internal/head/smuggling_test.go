package head_test

import (
	"strings"
	"testing"

	"github.com/chappe/chappe/internal/head"
	"github.com/chappe/chappe/internal/head/headtest"
)

func TestSmuggling(t *testing.T) {
	for _, tt := range headtest.Smuggling {
		var r head.Request
		err := r.Parse([]byte(tt.Head))
		if got := outcome(t, err); got != tt.Status {
			t.Errorf("%s: Parse(%q): %d (%v), want %d", tt.Name, tt.Head, got, err, tt.Status)
		}
	}
}

func TestMalformedHosts(t *testing.T) {
	for _, host := range []string{
		"", ":80", "h:", "h:x", "h:+1", "h:65536", "h:123456", "h:80:80", "h/", "h/x", "h?x", "h#x", "u@h", "h h", "h\th", "h,g", "h;g", "h%41",
		"%00", "h\\g", "h'g", "(h)", "[", "]", "[]", "[::1", "::1", "[::1]x", "[::1]:", "[127.0.0.1]", "[::1%25eth0]", "[fe80::1%eth0]", "[v1.x]",
		"[g::]", "x[::1]", "h[::1]:80", "\xc3\xa9", "<h>", "\"h\"",
	} {
		for _, form := range []string{"GET / HTTP/1.1\r\nHost: %\r\n\r\n", "GET / HTTP/1.0\r\nHost: %\r\n\r\n", "GET http://%/ HTTP/1.1\r\nHost: %\r\n\r\n"} {
			if strings.Contains(form, "http://%/") && strings.HasPrefix(host, "h/") {
				continue // a path
			}
			b := strings.ReplaceAll(form, "%", host)
			var r head.Request
			if got := outcome(t, r.Parse([]byte(b))); got != 400 {
				t.Errorf("Parse(%q): %d, want 400", b, got)
			}
		}
	}
}
