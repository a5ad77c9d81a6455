// Package prepared makes answers ready that are sent often: heads for 200 and
// 304 that need no work but to be written, in each content coding, with a strong
// ETag (RFC 9110 §8.8, §15.4.5).
package prepared

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
)

// Form is an answer in one content coding, ready to be written.
type Form struct {
	Head        []byte // from the status line to the last field, with Date and Content-Length
	NotModified []byte // the same of a 304
	Body        []byte
	ETag        string
}

// ETag is a strong validator (RFC 9110 §8.8.1) of what the upstream gave
// none for.
func ETag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"c-` + base64.RawURLEncoding.EncodeToString(sum[:15]) + `"`
}

// New writes the heads. The body is not to be changed any more.
func New(status int, h http.Header, body []byte) Form {
	f := Form{Body: body, ETag: h.Get("Etag")}
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	head, notModified := statusLine(status), statusLine(http.StatusNotModified)
	for _, name := range names {
		if name == "Content-Length" || name == "Age" || strings.Contains(name, " ") { // "Content-Length :", which net/http reads, and does not write
			continue
		}
		head = appendField(head, name, h[name])
		if inNotModified(name, f.ETag) {
			notModified = appendField(notModified, name, h[name])
		}
	}
	if status != http.StatusNoContent {
		head = append(strconv.AppendInt(append(head, "Content-Length: "...), int64(len(body)), 10), "\r\n"...)
	}
	f.Head, f.NotModified = bytes.Clone(head), bytes.Clone(notModified)
	return f
}

// inNotModified reports whether the field belongs into a 304 (RFC 9110
// §15.4.5); browsers want those about CORS as well.
func inNotModified(name, etag string) bool {
	switch name {
	case "Cache-Control", "Content-Location", "Date", "Etag", "Expires", "Vary", "Cdn-Cache-Control":
		return true
	case "Last-Modified":
		return etag == ""
	}
	return strings.HasPrefix(name, "Access-Control-")
}

func statusLine(status int) []byte {
	b := append(make([]byte, 0, 512), "HTTP/1.1 "...)
	b = append(strconv.AppendInt(b, int64(status), 10), ' ')
	return append(append(b, http.StatusText(status)...), "\r\n"...)
}

func appendField(b []byte, name string, values []string) []byte {
	for _, v := range values {
		b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
	}
	return b
}

// Header reads the head back.
func (f *Form) Header() http.Header { return ReadHeader(f.Head) }

// ReadHeader reads a head back.
func ReadHeader(head []byte) http.Header {
	_, fields, _ := bytes.Cut(head, []byte("\r\n"))
	h, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(slices.Clip(fields), "\r\n"...)))).ReadMIMEHeader()
	if err != nil {
		return http.Header{} // we wrote it, from what net/http had read
	}
	return http.Header(h)
}

// Encoded makes the form of another content coding, with an ETag of its own
// (RFC 9110 §8.8.3.3).
func Encoded(h http.Header, body []byte, coding string) *Form {
	h = h.Clone()
	h.Set("Content-Encoding", coding)
	if etag := h.Get("Etag"); strings.HasSuffix(etag, `"`) {
		h.Set("Etag", strings.TrimSuffix(etag, `"`)+"-"+coding+`"`)
	}
	f := New(http.StatusOK, h, body)
	return &f
}
