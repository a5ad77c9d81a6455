package coding_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"

	"github.com/chappe/chappe/internal/coding"
)

func TestRoundTrip(t *testing.T) {
	text := []byte(strings.Repeat(`{"count": 12}`, 1000))
	packed := coding.Gzip(text)
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, text) || len(packed) > len(text)/10 {
		t.Errorf("gzip gave %d bytes, read back %d, %v", len(packed), len(got), err)
	}
	packed = coding.Brotli(text)
	if got, err := io.ReadAll(brotli.NewReader(bytes.NewReader(packed))); err != nil || !bytes.Equal(got, text) || len(packed) > len(text)/10 {
		t.Errorf("brotli gave %d bytes, read back %d, %v", len(packed), len(got), err)
	}
}

func TestWorth(t *testing.T) {
	for _, tt := range []struct {
		contentType string
		size        int
		want        bool
	}{
		{"application/json; charset=utf-8", 256, true},
		{"application/json", 255, false},
		{"text/html", 1000, true},
		{"application/feed+json", 1000, true},
		{"image/svg+xml", 1000, true},
		{"image/png", 1000, false},
		{"", 1000, false},
		{";;", 1000, false},
	} {
		if got := coding.Worth(tt.contentType, tt.size); got != tt.want {
			t.Errorf("Worth(%q, %d) = %v", tt.contentType, tt.size, got)
		}
	}
}
