package progress_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chappe/chappe/internal/progress"
)

// deadlines records what is set.
type deadlines struct {
	*httptest.ResponseRecorder
	write, read []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = append(d.write, t); return nil }
func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = append(d.read, t); return nil }

func TestEachPieceHasItsDeadline(t *testing.T) {
	d := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	w := progress.Writer(d)
	text := bytes.Repeat([]byte("x"), 200<<10)
	if n, err := w.Write(text); n != len(text) || err != nil || !bytes.Equal(d.Body.Bytes(), text) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if len(d.write) != 4 || time.Until(d.write[0]) > 30*time.Second {
		t.Errorf("write deadlines %v, want one for each 64 KiB", d.write)
	}
	if _, ok := w.(interface{ Unwrap() http.ResponseWriter }); !ok {
		t.Error("a ResponseController cannot see through it")
	}
	body := progress.Body(io.NopCloser(strings.NewReader("abc")), w)
	if b, err := io.ReadAll(body); string(b) != "abc" || err != nil || len(d.read) < 2 || !d.read[len(d.read)-1].IsZero() {
		t.Errorf("read %q, %v, with deadlines %v", b, err, d.read)
	}
}
