package ws_test

import (
	"testing"

	"github.com/chappe/chappe/internal/ws"
)

func TestAcceptKey(t *testing.T) {
	key := []byte("dGhlIHNhbXBsZSBub25jZQ==") // RFC 6455 §1.3
	dst := make([]byte, 0, 64)
	if got := string(ws.AcceptKey(append(dst, "a: "...), key)); got != "a: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("AcceptKey = %q", got)
	}
	if n := testing.AllocsPerRun(100, func() { ws.AcceptKey(dst, key) }); n != 0 {
		t.Errorf("AcceptKey allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { ws.ValidKey(key) }); n != 0 {
		t.Errorf("ValidKey allocates %v times", n)
	}
}

func TestValidKey(t *testing.T) {
	for key, want := range map[string]bool{
		"dGhlIHNhbXBsZSBub25jZQ==":      true,
		"AAAAAAAAAAAAAAAAAAAAAA==":      true,
		"+/+/+/+/+/+/+/+/+/+/+w==":      true,
		"":                              false,
		"dGhlIHNhbXBsZSBub25jZQ":        false,
		"dGhlIHNhbXBsZSBub25jZQ=\n":     false,
		"dGhlIHNhbXBsZSBub25jZQ\n=":     false,
		"\r\ndGhlIHNhbXBsZSBub25jZQ":    false,
		"dGhlIHNhbXBsZSBub25jZSE=":      false, // 17 bytes
		"dGhlIHNhbXBsZSBub25jZSEh":      false, // 18
		"dGhlIHNhbXBsZSBub25jZQ==AAAA":  false,
		"dGhlIHNhbXBsZSBub25j!Q==":      false,
		"-_-_-_-_-_-_-_-_-_-_-w==":      false,
		"dGhlIHNhbXBsZSBub25jZ===":      false,
		"dGhlIHNhbXBsZSBub25jZQ==\x00":  false,
		"dGhlIHNhbXBsZSBub2\xc3\xa9ZQ=": false,
	} {
		if got := ws.ValidKey([]byte(key)); got != want {
			t.Errorf("ValidKey(%q) = %t", key, got)
		}
	}
}

func TestExtensions(t *testing.T) {
	const plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	const bits = plain + "; server_max_window_bits=15"
	for _, test := range []struct{ header, want string }{
		{"", ""},
		{"permessage-deflate", plain},
		{" permessage-deflate\t", plain},
		{"permessage-deflate; client_max_window_bits", plain}, // Chromium, Firefox
		{"permessage-deflate; client_max_window_bits=10", plain},
		{`permessage-deflate; client_max_window_bits="8"`, plain},
		{"permessage-deflate; server_no_context_takeover; client_no_context_takeover", plain},
		{"permessage-deflate;client_no_context_takeover ; client_max_window_bits = 15", plain},
		{"permessage-deflate; server_max_window_bits=15", bits},
		{`permessage-deflate; server_max_window_bits="15"; client_max_window_bits`, bits},
		{"x-webkit-deflate-frame, permessage-deflate", plain},
		{`other; a="x, permessage-deflate; y", permessage-deflate`, plain},
		{"permessage-deflate; server_max_window_bits=10, permessage-deflate", plain},
		{"permessage-deflate; server_max_window_bits=10; client_max_window_bits, permessage-deflate; server_max_window_bits=15", bits},
		{",,permessage-deflate", plain},

		{"x-webkit-deflate-frame", ""},
		{"Permessage-Deflate2", ""},
		{"permessage-deflate-2", ""},
		{"permessage-deflate; server_max_window_bits=14", ""},
		{"permessage-deflate; server_max_window_bits", ""},
		{"permessage-deflate; server_max_window_bits=015", ""},
		{"permessage-deflate; client_max_window_bits=", ""},
		{"permessage-deflate; client_max_window_bits=7", ""},
		{"permessage-deflate; client_max_window_bits=16", ""},
		{"permessage-deflate; client_max_window_bits=08", ""},
		{"permessage-deflate; client_max_window_bits=1x", ""},
		{"permessage-deflate; client_max_window_bits=100", ""},
		{"permessage-deflate; server_no_context_takeover=1", ""},
		{"permessage-deflate; client_no_context_takeover=", ""},
		{"permessage-deflate; client_max_window_bits; client_max_window_bits", ""},
		{"permessage-deflate; unknown", ""},
		{"permessage-deflate;", ""},
		{`permessage-deflate; client_max_window_bits="8, permessage-deflate`, ""},
		{`other; a="x, permessage-deflate; y"`, ""},
	} {
		if got := ws.Extensions(test.header); got != test.want {
			t.Errorf("Extensions(%q) = %q, want %q", test.header, got, test.want)
		}
	}
}

func FuzzExtensions(f *testing.F) {
	f.Add(`a; b="c, d", permessage-deflate; client_max_window_bits`)
	f.Fuzz(func(t *testing.T, header string) {
		ws.Extensions(header) // must end
	})
}
