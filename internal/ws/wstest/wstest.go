// Package wstest holds the cases of the Autobahn|Testsuite (crossbario/
// autobahn-testsuite, groups 1 to 7 and 10, as a client sends them to a
// server that echoes) as data, and runs one on a connection whose upgrade is
// done. It shares no code with what it tests.
//
// It is stricter than the suite in one point: where that lets a server drop
// the connection, a Case wants the close frame with its code.
package wstest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Opcodes of RFC 6455 §11.8.
const (
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xA
)

// noCode stands for the code of a close frame without one (RFC 6455 §7.1.5).
const noCode = 1005

// Case is one case of the suite.
type Case struct {
	Name   string  // its number there: "6.4.1"
	Writes []Write // what the client sends
	// Answers are the frames that must come back before the close frame, in
	// this order.
	Answers []Frame
	// Closes says that the client closes, with 1000, once it has the answers.
	Closes bool
	// Codes are those that the server's close frame may carry; 1005: none.
	Codes []uint16
	// NonStrict says that the suite has a lesser pass here: no answers
	// before the close, or a fault told later than it could be.
	NonStrict bool
	// Informational says that any answers do.
	Informational bool
}

// Write is what the client gives its socket at once, after the pause.
type Write struct {
	Pause Pause
	Bytes []byte
}

// Pause is what the client waits for before it writes on.
type Pause int

// The pauses of the suite's cases.
const (
	None   Pause = iota
	Answer       // one more frame must have come
	Quiet        // nothing must come for a moment
	Missed       // the server must have had the time to fail the connection
)

const (
	quietTime  = 50 * time.Millisecond
	missedTime = time.Second
	caseTime   = 5 * time.Second
)

// Frame is one that a server sends: final and unmasked.
type Frame struct {
	Op      byte
	Payload []byte
}

// ErrNonStrict is what Run's error is where the suite says NON-STRICT.
var ErrNonStrict = errors.New("non-strict")

// run is a case under way.
type run struct {
	Case
	conn     net.Conn
	incoming chan Frame // closed at the connection's end
	broken   error      // why, unless it was closed; valid after incoming is closed
	received []Frame
	ended    bool
	late     bool // a Missed write was sent
}

// Run runs the case on conn, whose other end is a server that echoes messages,
// and closes conn. Messages may need 256 KiB (case 7.1.6 takes 1009, too).
func (c Case) Run(conn net.Conn) error {
	r := &run{Case: c, conn: conn, incoming: make(chan Frame, 16)}
	_ = conn.SetDeadline(time.Now().Add(caseTime)) // what does not work shows when used
	go func() {
		defer close(r.incoming)
		r.broken = r.readFrames()
		_ = conn.Close() // a write may wait for a server that waits for us
	}()
	err := r.play()
	_ = conn.Close() // ends readFrames
	for range r.incoming {
	}
	if err != nil {
		return fmt.Errorf("case %s: %w", c.Name, err)
	}
	return nil
}

func (r *run) play() error {
	for _, w := range r.Writes {
		if err := r.pause(w.Pause); err != nil {
			return err
		}
		if r.closed() || r.ended {
			break
		}
		_, _ = r.conn.Write(w.Bytes) // if the server closed, what it said decides
	}
	for r.Closes && len(r.received) < len(r.Answers) && r.receive(nil) {
	}
	if r.Closes && !r.ended && !r.closed() {
		_, _ = r.conn.Write(masked(final|opClose, "\x03\xe8")) // the server may have closed
	}
	for r.receive(nil) {
	}
	return r.judge()
}

func (r *run) pause(p Pause) error {
	switch p {
	case Answer:
		r.receive(nil)
	case Quiet:
		before := len(r.received)
		r.receive(time.After(quietTime))
		if r.ended || len(r.received) > before {
			return errors.New("the server ended before it could know the fault")
		}
	case Missed:
		r.receive(time.After(missedTime))
		r.late = !r.ended && !r.closed()
	}
	return nil
}

// receive waits for a frame, until the end or the timeout.
func (r *run) receive(timeout <-chan time.Time) bool {
	select {
	case f, ok := <-r.incoming:
		if !ok {
			r.ended = true
			return false
		}
		r.received = append(r.received, f)
		return true
	case <-timeout:
		return false
	}
}

// closed reports whether the server has sent its close frame.
func (r *run) closed() bool {
	return slices.ContainsFunc(r.received, func(f Frame) bool { return f.Op == opClose })
}

func (r *run) judge() error {
	answers, last := r.received, Frame{}
	if n := len(answers); n > 0 {
		answers, last = answers[:n-1], answers[n-1]
	}
	if r.broken != nil {
		return fmt.Errorf("after %s: %w", list(r.received), r.broken)
	}
	if last.Op != opClose {
		return fmt.Errorf("no close frame at the end: got %s", list(r.received))
	}
	if code := closeCode(last.Payload); !slices.Contains(r.Codes, code) {
		return fmt.Errorf("closed with %d %q, want one of %v", code, last.Payload, r.Codes)
	}
	switch {
	case r.Informational:
		return nil
	case r.NonStrict && (r.late || len(answers) == 0 && len(r.Answers) > 0):
		return ErrNonStrict
	case !slices.EqualFunc(answers, r.Answers, equal):
		return fmt.Errorf("got %s, want %s", list(answers), list(r.Answers))
	}
	return nil
}

func equal(a, b Frame) bool { return a.Op == b.Op && bytes.Equal(a.Payload, b.Payload) }

func closeCode(payload []byte) uint16 {
	if len(payload) < 2 {
		return noCode
	}
	return binary.BigEndian.Uint16(payload)
}

func list(frames []Frame) string {
	text := "["
	for _, f := range frames {
		text += fmt.Sprintf(" %X:%.40q(%d)", f.Op, f.Payload, len(f.Payload))
	}
	return text + " ]"
}

// readFrames reads what the server sends. An end of the connection after its
// close frame is no error, and neither is a reset: it may have dropped bytes
// that it did not read.
func (r *run) readFrames() error {
	for {
		f, err := readFrame(r.conn)
		if err != nil {
			if isTimeout(err) || errors.Is(err, errFrame) {
				return err
			}
			return nil
		}
		r.incoming <- f
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

var errFrame = errors.New("the server's frame breaks RFC 6455 section 5")

func readFrame(conn io.Reader) (Frame, error) {
	var head [10]byte
	if _, err := io.ReadFull(conn, head[:2]); err != nil {
		return Frame{}, err
	}
	// Servers that echo a message in one frame are what we know: final, no
	// reserved bits, no mask, and one of the opcodes.
	op, length := head[0]&^final, uint64(head[1])
	if head[0]&final == 0 || !slices.Contains([]byte{opText, opBinary, opClose, opPing, opPong}, op) || length > 127 {
		return Frame{}, fmt.Errorf("%w: it begins with % x", errFrame, head[:2])
	}
	var least uint64
	if extra := map[uint64]int{126: 2, 127: 8}[length]; extra > 0 {
		if _, err := io.ReadFull(conn, head[10-extra:]); err != nil {
			return Frame{}, err
		}
		least = map[int]uint64{2: 126, 8: 65536}[extra]
		clear(head[2 : 10-extra])
		length = binary.BigEndian.Uint64(head[2:])
	}
	if length < least || length > 1<<20 || op >= opClose && length > 125 {
		return Frame{}, fmt.Errorf("%w: its length is %d", errFrame, length)
	}
	payload := make([]byte, length)
	_, err := io.ReadFull(conn, payload)
	return Frame{op, payload}, err
}
