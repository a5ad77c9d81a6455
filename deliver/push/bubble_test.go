package push_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chappe/chappe/event"
)

// idleLog is a log in which nothing happens, for tests of time: a synctest
// bubble does without files and sockets.
type idleLog struct{}

func (idleLog) Head() event.Cursor { return event.Cursor{Epoch: "aaaa", Seq: 1} }

func (l idleLog) Read(context.Context, event.Query) (event.Page, error) {
	return event.Page{Cursor: l.Head()}, nil
}

func newRequest(t *testing.T, target, token string) *http.Request {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

// pipe is a response that is read while it is written.
type pipe struct {
	reader *io.PipeReader
	lines  *bufio.Reader
	writer *io.PipeWriter
	header http.Header
}

func newPipe(t *testing.T) *pipe {
	r, w := io.Pipe()
	t.Cleanup(func() { r.Close() })
	return &pipe{reader: r, lines: bufio.NewReader(r), writer: w, header: http.Header{}}
}

func (p *pipe) Header() http.Header              { return p.header }
func (p *pipe) WriteHeader(int)                  {}
func (p *pipe) Write(b []byte) (int, error)      { return p.writer.Write(b) }
func (p *pipe) Flush()                           {}
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
func (p *pipe) end()                             { p.writer.Close() }
