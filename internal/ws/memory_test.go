package ws_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/chappe/chappe/internal/ws"
)

// discard counts what it is told.
type discard struct{ messages, controls int }

func (d *discard) Message(ws.Op, []byte) bool { d.messages++; return true }
func (d *discard) Control(ws.Op, []byte) bool { d.controls++; return true }

func TestFeedAllocates(t *testing.T) {
	for _, test := range []struct {
		name  string
		input []byte
		most  float64
	}{
		{"small text", masked(final|text, "Hello, télégraphe"), 0},
		{"large binary", masked(final|octets, strings.Repeat("x", 60000)), 0},
		{"ping", masked(0x89, "ping"), 0},
		{"fragments", join(masked(text, "Hel"), masked(0x89, ""), masked(final|more, "lo")), 0},
		// The race detector has a pool forget things; a new inflater takes 5.
		{"compressed", deflated(text, strings.Repeat("Hello, ", 100)), 2},
		{"many", bytes.Repeat(masked(final|text, "Hello"), 20), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, h, b := ws.NewReader(ws.Options{Deflate: true}), &discard{}, make([]byte, len(test.input))
			got := testing.AllocsPerRun(100, func() {
				copy(b, test.input)
				if err := r.Feed(b, h); err != nil {
					t.Fatal(err)
				}
			})
			if got > test.most || h.messages+h.controls < 100 {
				t.Errorf("%v allocations, %d messages, %d controls", got, h.messages, h.controls)
			}
		})
	}
}

// A whole frame is handed over where it lies.
func TestFeedDoesNotCopy(t *testing.T) {
	b := masked(final|text, "Hello")
	h := &keep{}
	if err := ws.NewReader(ws.Options{}).Feed(b, h); err != nil {
		t.Fatal(err)
	}
	if &h.payload[0] != &b[6] || cap(h.payload) != len("Hello") {
		t.Errorf("the payload is a copy, or reaches beyond its end (%d)", cap(h.payload))
	}
}

// keep keeps a payload beyond its time.
type keep struct {
	discard
	payload []byte
}

func (k *keep) Message(_ ws.Op, payload []byte) bool { k.payload = payload; return true }

// What 1,000 unfinished messages of 64 fragments hold.
func TestHeldMemory(t *testing.T) {
	for _, test := range []struct {
		name  string
		input []byte
		most  uint64
	}{
		{"64 fragments of a byte", join(masked(text, "x"), bytes.Repeat(masked(more, "x"), 63)), 4 << 10},
		{"a large head", head(text, 60000), 1 << 10},
		{"a large head and a few bytes", append(head(text, 60000), 1^0xA1, 2^0xB2), 1 << 10},
		{"half a ping", masked(0x89, strings.Repeat("x", 125))[:60], 1 << 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			readers := make([]*ws.Reader, 1000)
			h := &discard{}
			before := heap()
			for i := range readers {
				readers[i] = ws.NewReader(ws.Options{})
				for _, c := range test.input {
					if err := readers[i].Feed([]byte{c}, h); err != nil {
						t.Fatal(err)
					}
				}
			}
			each := (heap() - before) / uint64(len(readers))
			t.Logf("%d bytes a reader", each)
			if each > test.most {
				t.Errorf("a reader holds %d bytes, at most %d", each, test.most)
			}
			runtime.KeepAlive(readers)
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // the pools of other tests outlive one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A large message's buffer goes with it; a small one serves the next.
func TestReaderKeepsSmallBuffers(t *testing.T) {
	r := ws.NewReader(ws.Options{})
	for _, test := range []struct {
		size int
		kept bool
	}{{1000, true}, {50000, false}} {
		if _, err := feed(r, masked(final|octets, strings.Repeat("x", test.size)), 500); err != nil {
			t.Fatal(err)
		}
		if got := r.Held(); (got > 0) != test.kept || got > 4<<10 {
			t.Errorf("after %d bytes %d are held", test.size, got)
		}
		r.Reset(ws.Options{})
		if got := r.Held(); (got > 0) != test.kept {
			t.Errorf("after %d bytes and Reset %d are held", test.size, got)
		}
	}
}

func BenchmarkFeed(b *testing.B) {
	for _, bench := range []struct {
		name  string
		input []byte
	}{
		{"text-64", masked(final|text, strings.Repeat("x", 64))},
		{"text-4096", masked(final|text, strings.Repeat("x", 4096))},
		{"ping", masked(0x89, "ping")},
		{"deflated-500", deflated(text, strings.Repeat("Hello, télégraphe; ", 25))},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r, h, frame := ws.NewReader(ws.Options{Deflate: true}), &discard{}, make([]byte, len(bench.input))
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				copy(frame, bench.input)
				if err := r.Feed(frame, h); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendDeflated(b *testing.B) {
	payload := []byte(strings.Repeat(`{"type":"org.example","id":"1793"}`, 15))
	var dst []byte
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		dst = ws.AppendDeflated(dst[:0], ws.OpText, payload)
	}
	b.ReportMetric(float64(len(dst)), "B/frame")
}
