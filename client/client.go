// Package client is the browser's side: chappe.js, one ES module that follows
// topics over WebSocket, SSE or long-poll, whichever gets through, and resumes
// by cursor on any of them. It is served as it is written; docs/client.md is
// its manual. What it needs of the server is what docs/http.md promises, and
// nothing else.
package client

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed chappe.js
var script []byte

// variant is the script as it is sent in one coding.
type variant struct {
	body   []byte
	coding string // of the content; empty for none
	etag   string
}

// Handler serves the script. It is public: a page of any origin may load it.
func Handler() http.Handler {
	sum := sha256.Sum256(script)
	tag := hex.EncodeToString(sum[:12])
	plain := variant{script, "", `"` + tag + `"`}
	zipped := variant{compress(script), "gzip", `"` + tag + `-gzip"`} // RFC 9110 §8.8.3.3: each coding has its own
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if takesGzip(r.Header) {
			zipped.serve(w, r)
			return
		}
		plain.serve(w, r)
	})
}

func (v variant) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "no-cache") // asked for each time, sent when it has changed
	h.Set("ETag", v.etag)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	if v.coding != "" {
		h.Set("Content-Encoding", v.coding)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(v.body))
}

func compress(b []byte) []byte {
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestCompression) // the level is a valid one
	_, _ = z.Write(b)                                       // a buffer takes all
	_ = z.Close()
	return out.Bytes()
}

// takesGzip reports whether Accept-Encoding has gzip, and not with the weight
// zero (RFC 9110 §12.5.3).
func takesGzip(h http.Header) bool {
	for _, listed := range strings.Split(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		coding, weight, _ := strings.Cut(listed, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		q, weighed := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
		value, err := strconv.ParseFloat(q, 64)
		return !weighed || err == nil && value > 0
	}
	return false
}
