package mailbox

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

// readerConn is a connection that can only be read.
type readerConn struct {
	net.Conn
	io.Reader
}

func (c readerConn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// A literal that is cut is completed before the error: the library would have
// two goroutines read at once.
func TestCutLiteralIsCompleted(t *testing.T) {
	cut := errors.New("connection reset")
	const head = "* 1 FETCH (UID 1 BODY[] {10}\r\nabc"
	tests := []struct {
		name, sent, want string
		fault            bool
	}{
		{"by the link", head, head + strings.Repeat("\x00", 7), false},
		{"after it", head + "defghij)\r\n", head + "defghij)\r\n", false},
		{"by the guard", head + "defghij " + strings.Repeat("x", maxLine+1), head + strings.Repeat("\x00", 7), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pieces := io.MultiReader(strings.NewReader(tt.sent[:min(len(tt.sent), len(head))]), strings.NewReader(tt.sent[min(len(tt.sent), len(head)):]), iotest.ErrReader(cut))
			g := &guard{Conn: readerConn{Reader: pieces}}
			got, err := io.ReadAll(bigReads{g})
			if string(got) != tt.want {
				t.Errorf("read %q, want %q", got, tt.want)
			}
			if _, fault := g.why(); err == nil || (fault != nil) != tt.fault {
				t.Errorf("ended with %v, fault %v", err, fault)
			}
		})
	}
}

// bigReads reads into a buffer larger than any line.
type bigReads struct{ g *guard }

func (b bigReads) Read(p []byte) (int, error) {
	buffer := make([]byte, 2*maxLine)
	n, err := b.g.Read(buffer)
	if n > len(p) {
		return 0, errors.New("more than fits")
	}
	return copy(p, buffer[:n]), err
}
