// Package coding makes the content codings of text that is compressed once and
// sent often: gzip and brotli (RFC 9110 §8.4.1, RFC 7932).
package coding

import (
	"bytes"
	"compress/gzip"
	"io"
	"mime"
	"strings"

	"github.com/andybalholm/brotli"
)

// brotliLevel is where more costs much time and gains little.
const brotliLevel = 6

// Worth reports whether compressing an answer of that media type and size
// gains anything: it is text, and more than a packet's corner.
func Worth(contentType string, size int) bool {
	const least = 256
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil || size < least {
		return false
	}
	switch t {
	case "application/json", "application/javascript", "application/xml", "application/wasm":
		return true
	}
	return strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "+json") || strings.HasSuffix(t, "+xml")
}

// Gzip compresses b.
func Gzip(b []byte) []byte {
	return encode(b, func(w io.Writer) io.WriteCloser {
		z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err != nil {
			panic(err) // the level is a constant
		}
		return z
	})
}

// Brotli compresses b.
func Brotli(b []byte) []byte {
	return encode(b, func(w io.Writer) io.WriteCloser { return brotli.NewWriterLevel(w, brotliLevel) })
}

func encode(b []byte, to func(io.Writer) io.WriteCloser) []byte {
	var out bytes.Buffer
	w := to(&out)
	_, _ = w.Write(b) // into memory
	_ = w.Close()
	return bytes.Clone(out.Bytes())
}
