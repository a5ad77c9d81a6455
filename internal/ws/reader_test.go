package ws_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chappe/chappe/internal/ws"
)

// The first bytes of frames.
const (
	final  = 0x80
	rsv1   = 0x40
	text   = byte(ws.OpText)
	octets = byte(ws.OpBinary)
	more   = byte(ws.OpContinuation)
)

// head is a masked frame's, for a length in its shortest form.
func head(first byte, length int) []byte {
	b := []byte{first}
	switch {
	case length < 126:
		b = append(b, 0x80|byte(length))
	case length < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(length))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(length))
	}
	return append(b, 0xA1, 0xB2, 0xC3, 0xD4)
}

// masked is a client's frame.
func masked(first byte, payload string) []byte {
	b := head(first, len(payload))
	for i := range len(payload) {
		b = append(b, payload[i]^[4]byte{0xA1, 0xB2, 0xC3, 0xD4}[i%4])
	}
	return b
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// record writes down what it is told.
type record struct {
	got  []string
	stop bool // returns false
}

func (r *record) Message(op ws.Op, payload []byte) bool {
	r.got = append(r.got, fmt.Sprintf("%d:%s", op, payload))
	return !r.stop
}

func (r *record) Control(op ws.Op, payload []byte) bool {
	return r.Message(op, payload)
}

// feed gives input to r in pieces of size bytes.
func feed(r *ws.Reader, input []byte, size int) (got []string, err error) {
	var h record
	for piece := range slices.Chunk(bytes.Clone(input), size) {
		if err = r.Feed(piece, &h); err != nil {
			break
		}
	}
	return h.got, err
}

func code(err error) uint16 {
	if fault, ok := errors.AsType[*ws.CloseError](err); ok {
		return fault.Code
	}
	return 0
}

var small = ws.Options{MaxMessage: 200, MaxFragments: 4}

func TestFeed(t *testing.T) {
	fill := func(n int) string { return strings.Repeat("x", n) }
	for _, test := range []struct {
		name  string
		input []byte
		want  []string
		code  uint16
	}{
		{"text", masked(final|text, "héllo"), []string{"1:héllo"}, 0},
		{"binary", masked(final|octets, "\xff\x00"), []string{"2:\xff\x00"}, 0},
		{"empty", masked(final|text, ""), []string{"1:"}, 0},
		{"two", join(masked(final|text, "a"), masked(final|text, "b")), []string{"1:a", "1:b"}, 0},
		{"ping and pong", join(masked(0x89, "a"), masked(0x8A, fill(125))), []string{"9:a", "10:" + fill(125)}, 0},
		{"16-bit length", masked(final|text, fill(126)), []string{"1:" + fill(126)}, 0},
		{"at the limit", masked(final|text, fill(200)), []string{"1:" + fill(200)}, 0},
		{"fragments", join(masked(text, "a"), masked(0x89, "p"), masked(more, ""), masked(final|more, "b"), masked(final|text, "c")),
			[]string{"9:p", "1:ab", "1:c"}, 0},
		{"fragments at the limit", join(masked(octets, fill(100)), masked(final|more, fill(100))), []string{"2:" + fill(200)}, 0},
		{"fragment count at the limit", join(masked(text, ""), masked(more, ""), masked(more, ""), masked(final|more, "")), []string{"1:"}, 0},
		{"a rune over fragments", join(masked(text, "\xe2"), masked(more, "\x82"), masked(final|more, "\xac")), []string{"1:€"}, 0},
		{"a rune around a ping", join(masked(text, "\xe2"), masked(0x89, "\xff"), masked(final|more, "\x82\xac")), []string{"9:\xff", "1:€"}, 0},

		{"not masked", []byte{final | text, 0x05}, nil, 1002},
		{"RSV1 not agreed", masked(final|rsv1|text, "a"), nil, 1002},
		{"RSV2", masked(final|0x20|text, "a"), nil, 1002},
		{"RSV3", masked(final|0x10|text, "a"), nil, 1002},
		{"opcode 3", masked(final|3, ""), nil, 1002},
		{"opcode 15", masked(final|15, ""), nil, 1002},
		{"fragmented ping", masked(0x09, ""), nil, 1002},
		{"long ping", head(0x89, 126), nil, 1002},
		{"16 bits for 125", []byte{final | text, 0xFE, 0, 125, 1, 2, 3, 4}, nil, 1002},
		{"64 bits for 65535", []byte{final | text, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 1, 2, 3, 4}, nil, 1002},
		{"highest bit", []byte{final | text, 0xFF, 0x80, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4}, nil, 1002},
		{"nothing to continue", masked(final|more, "a"), nil, 1002},
		{"not continued", join(masked(text, "a"), masked(final|text, "b")), nil, 1002},
		{"good, then bad", join(masked(final|text, "a"), masked(final|3, "")), []string{"1:a"}, 1002},

		{"too big by its head", head(final|octets, 201), nil, 1009},
		{"huge by its head", []byte{final | text, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4}, nil, 1009},
		{"too big in sum", join(masked(text, fill(100)), head(more, 101)), nil, 1009},
		{"too many fragments", join(masked(text, ""), masked(more, ""), masked(more, ""), masked(more, ""), masked(more, "")[:2]), nil, 1008},

		{"broken text", masked(final|text, "a\xffb"), nil, 1007},
		{"broken text, the frame unfinished", masked(final|text, "a\xc0zzz")[:8], nil, 1007},
		{"surrogate by its second byte", masked(final|text, "\xed\xa0\x80")[:8], nil, 1007},
		{"broken over fragments", join(masked(text, "\xe2"), masked(more, "a")), nil, 1007},
		{"unfinished rune at the end", join(masked(text, "a"), masked(final|more, "\xe2\x82")), nil, 1007},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, size := range []int{len(test.input), 1, 3} {
				got, err := feed(ws.NewReader(small), test.input, size)
				if !slices.Equal(got, test.want) || code(err) != test.code {
					t.Errorf("in pieces of %d: %q, %v; want %q, %d", size, got, err, test.want, test.code)
				}
				if fault, ok := errors.AsType[*ws.CloseError](err); ok && (fault.Reason == "" || len(fault.Reason) > 123) {
					t.Errorf("the reason is %q", fault.Reason)
				}
			}
		})
	}
}

func TestFeedClose(t *testing.T) {
	withCode := func(code uint16, reason string) string {
		return string(binary.BigEndian.AppendUint16(nil, code)) + reason
	}
	valid := func(code int) bool {
		return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
	}
	for sent := range 1 << 16 {
		want := uint16(1002)
		if valid(sent) {
			want = 0
		}
		got, err := feed(&ws.Reader{}, masked(0x88, withCode(uint16(sent), "")), 100)
		if code(err) != want || (len(got) == 1) != (want == 0) {
			t.Fatalf("close %d: %q, %v", sent, got, err)
		}
	}
	for _, test := range []struct {
		payload string
		code    uint16
	}{
		{"", 0},
		{"a", 1002},
		{withCode(1000, "bye €"), 0},
		{withCode(1000, "\xe2\x82"), 1007},
		{withCode(1005, "\xe2\x82"), 1002},
	} {
		got, err := feed(&ws.Reader{}, masked(0x88, test.payload), 1)
		if code(err) != test.code || (len(got) == 1) != (test.code == 0) {
			t.Errorf("close %q: %q, %v; want %d", test.payload, got, err, test.code)
		}
	}
}

// Between two messages nothing is held: a new reader may take over.
func TestIdle(t *testing.T) {
	r := ws.NewReader(small)
	input := join(masked(text, "ab"), masked(0x89, "p"), masked(final|more, ""), masked(final|text, "c"), masked(0x8A, "q"))
	idleAt := []int{0, 6 + 2 + 6 + 1 + 6, 6 + 2 + 6 + 1 + 6 + 6 + 1, len(input)}
	for i := range len(input) + 1 {
		if got, want := r.Idle(), slices.Contains(idleAt, i); got != want {
			t.Errorf("after %d bytes: idle is %t", i, got)
		}
		if i < len(input) {
			if _, err := feed(r, input[i:i+1], 1); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestFeedAfterTheEnd(t *testing.T) {
	good := masked(final|text, "a")
	for _, test := range []struct {
		name string
		last []byte
		stop bool
		code uint16
		want []string
	}{
		{"close frame", masked(0x88, ""), false, 0, []string{"8:"}},
		{"handler's false", masked(final|text, "z"), true, 0, []string{"1:z"}},
		{"handler's false for a ping within a message", join(masked(text, "y"), masked(0x89, "z")), true, 0, []string{"9:z"}},
		{"fault", masked(final|3, ""), false, 1002, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, h := ws.NewReader(small), &record{stop: test.stop}
			for range 2 { // the rest of the piece, and the next one
				if err := r.Feed(join(test.last, good), h); code(err) != test.code {
					t.Errorf("Feed: %v, want %d", err, test.code)
				}
			}
			if !slices.Equal(h.got, test.want) {
				t.Errorf("got %q, want %q", h.got, test.want)
			}
			if r.Idle() {
				t.Error("an ended reader is idle: a new one would read on")
			}
			r.Reset(small)
			if got, err := feed(r, good, 1); !r.Idle() || err != nil || !slices.Equal(got, []string{"1:a"}) {
				t.Errorf("after Reset: %q, %v", got, err)
			}
		})
	}
}

func TestResetWithinAMessage(t *testing.T) {
	for _, held := range [][]byte{{final}, masked(text, "\xe2"), masked(0x89, "abc")[:8], masked(final|text, "abc")[:7]} {
		r := ws.NewReader(ws.Options{})
		if _, err := feed(r, held, 1); err != nil {
			t.Fatal(err)
		}
		r.Reset(small)
		got, err := feed(r, join(masked(0x89, "p"), masked(final|text, "a")), 1)
		if err != nil || !slices.Equal(got, []string{"9:p", "1:a"}) {
			t.Errorf("after % x and Reset: %q, %v", held, got, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	var r ws.Reader
	if _, err := feed(&r, masked(final|octets, strings.Repeat("x", 64<<10)), 4096); err != nil {
		t.Errorf("64 KiB: %v", err)
	}
	if _, err := feed(&r, head(final|octets, 64<<10+1), 100); code(err) != 1009 {
		t.Errorf("a byte more: %v", err)
	}
	r = ws.Reader{}
	if _, err := feed(&r, join(masked(text, ""), bytes.Repeat(masked(more, ""), 63)), 100); err != nil {
		t.Errorf("64 fragments: %v", err)
	}
	if _, err := feed(&r, masked(final|more, ""), 100); code(err) != 1008 {
		t.Errorf("the 65th: %v", err)
	}
}
