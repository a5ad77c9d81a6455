// Package progress cuts a client that takes or sends nothing for a while, where
// a deadline for the whole would cut slow ones: each piece has its own.
package progress

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"time"
)

const (
	within = 30 * time.Second // each piece
	piece  = 64 << 10         // bytes
)

// Writer gives what is written to w piecewise deadlines.
func Writer(w http.ResponseWriter) http.ResponseWriter {
	return &writer{w, http.NewResponseController(w)}
}

type writer struct {
	http.ResponseWriter
	conn *http.ResponseController
}

// Write implements io.Writer.
func (w *writer) Write(b []byte) (int, error) {
	n := 0
	for part := range slices.Chunk(b, piece) {
		_ = w.conn.SetWriteDeadline(time.Now().Add(within)) // refused by recorders only
		m, err := w.ResponseWriter.Write(part)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Body gives each read of a request's body its own deadline; w is the request's.
func Body(body io.ReadCloser, w http.ResponseWriter) io.ReadCloser {
	return &reader{body, http.NewResponseController(w)}
}

type reader struct {
	io.ReadCloser
	conn *http.ResponseController
}

// Read implements io.Reader.
func (r *reader) Read(b []byte) (int, error) {
	_ = r.conn.SetReadDeadline(time.Now().Add(within)) // as above
	n, err := r.ReadCloser.Read(b)
	if err != nil { // it is over: how long the answer takes is another matter
		_ = r.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

// Copy copies a body; live has each piece sent on at once.
func Copy(w http.ResponseWriter, body io.Reader, live bool) error {
	if !live {
		_, err := io.Copy(w, body)
		return err
	}
	conn, b := http.NewResponseController(w), make([]byte, 32<<10)
	for {
		n, err := body.Read(b)
		if n > 0 {
			if _, err := w.Write(b[:n]); err != nil {
				return err
			}
			if err := conn.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
