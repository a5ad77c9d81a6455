package head

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
)

// Bytes is the head as it was sent, without an empty line before it.
func (r *Request) Bytes() []byte { return r.head[r.start:r.Size] }

// HTTP is the request as net/http reads it, by net/http itself, so that no
// handler sees anything else: with copies of all strings, RemoteAddr as given,
// and body, which may be nil, for Body. It fails where net/http refuses what
// Parse did not: a path with a bad percent-encoding. The answer is 400.
func (r *Request) HTTP(remote string, body io.Reader) (*http.Request, error) {
	head := r.Bytes()
	req, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(head), len(head)))
	if err != nil {
		return nil, fmt.Errorf("read head: %w", err)
	}
	req.RemoteAddr = remote
	switch body := body.(type) {
	case nil:
		req.Body = http.NoBody
	case io.ReadCloser:
		req.Body = body
	default:
		req.Body = io.NopCloser(body)
	}
	return req, nil
}
