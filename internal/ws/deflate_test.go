package ws_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/chappe/chappe/internal/ws"
)

// compress is what a client sends for payload (RFC 7692 §7.2.1).
func compress(payload string, level int) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(w, payload)
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// finished is payload as a stream of its own, its last block final.
func finished(payload string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 9)
	_, _ = io.WriteString(w, payload)
	_ = w.Close()
	return b.String()
}

func deflated(op byte, payload string) []byte {
	return masked(final|rsv1|op, compress(payload, 9))
}

var deflating = ws.Options{Deflate: true, MaxMessage: 1 << 20}

func TestInflate(t *testing.T) {
	long := strings.Repeat("a long text, ", 20000)
	tight := ws.Options{Deflate: true, MaxMessage: 100}
	for _, test := range []struct {
		name    string
		options ws.Options
		input   []byte
		want    []string
		code    uint16
	}{
		// RFC 7692 §7.2.3.1, 7.2.3.3 to 7.2.3.5.
		{"the RFC's example", deflating, masked(0xC1, "\xf2\x48\xcd\xc9\xc9\x07\x00"), []string{"1:Hello"}, 0},
		{"the RFC's fragments", deflating, join(masked(0x41, "\xf2\x48\xcd"), masked(0x80, "\xc9\xc9\x07\x00")), []string{"1:Hello"}, 0},
		{"the RFC's stored block", deflating, masked(0xC1, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), []string{"1:Hello"}, 0},
		{"the RFC's final block", deflating, masked(0xC1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), []string{"1:Hello"}, 0},
		{"the RFC's two blocks", deflating, masked(0xC1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), []string{"1:Hello"}, 0},
		{"the RFC's empty message", deflating, masked(0xC1, "\x00"), []string{"1:"}, 0},

		{"a final block at the end", deflating, masked(0xC1, "\xf3\x48\xcd\xc9\xc9\x07\x00"), []string{"1:Hello"}, 0},
		{"final blocks in a row", deflating, masked(0xC1, finished("Hel")+finished("lo")), []string{"1:Hello"}, 0},
		{"a final empty block without its tail", deflating, masked(0xC1, "\x01"), []string{"1:"}, 0},
		{"a final block that ends in the tail", deflating, masked(0xC1, "\x03"), nil, 1007},
		{"too many final blocks", deflating, masked(0xC1, strings.Repeat(finished("a"), 20)), nil, 1007},
		{"longer than the scratch", deflating, deflated(text, long), []string{"1:" + long}, 0},
		{"as long as the scratch", deflating, deflated(text, long[:16<<10]), []string{"1:" + long[:16<<10]}, 0},
		{"uncompressed between", deflating, join(masked(0xC2, compress("a", 9)), masked(0x82, "b"), masked(0xC2, compress("c", 9))),
			[]string{"2:a", "2:b", "2:c"}, 0},
		{"a ping between", deflating, join(masked(0x41, "\xf2\x48\xcd"), masked(0x89, "p"), masked(0x80, "\xc9\xc9\x07\x00")),
			[]string{"9:p", "1:Hello"}, 0},
		{"at the limit", tight, deflated(octets, long[:100]), []string{"2:" + long[:100]}, 0},

		{"beyond the limit", tight, deflated(octets, long[:101]), nil, 1009},
		{"far beyond the limit", tight, deflated(octets, long), nil, 1009},
		{"RSV1 on a continuation", deflating, join(masked(0x41, "\xf2\x48\xcd"), masked(0xC0, "\xc9\xc9\x07\x00")), nil, 1002},
		{"RSV1 on a ping", deflating, masked(0xC9, ""), nil, 1002},
		{"RSV1 and RSV2", deflating, masked(0xE1, "\x00"), nil, 1002},
		{"garbage", deflating, masked(0xC1, "\xff\xff\xff\xff"), nil, 1007},
		{"garbage after the scratch", deflating, masked(0xC1, compress(long, 9)+"\xff\xff\xff\xff"), nil, 1007},
		{"cut", deflating, masked(0xC1, compress(long, 9)[:100]), nil, 1007},
		{"nothing", deflating, masked(0xC1, ""), nil, 1007},
		{"the tail not taken off", deflating, masked(0xC1, compress("Hello", 9)+"\x00\x00\xff\xff"), nil, 1007},
		{"text that is not UTF-8", deflating, deflated(text, "a\xff"), nil, 1007},
		{"the same as binary", deflating, deflated(octets, "a\xff"), []string{"2:a\xff"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, size := range []int{len(test.input), 1} {
				got, err := feed(ws.NewReader(test.options), test.input, size)
				if !slices.Equal(got, test.want) || code(err) != test.code {
					t.Errorf("in pieces of %d: %.100q, %v; want %.100q, %d", size, got, err, test.want, test.code)
				}
			}
		})
	}
}

func TestInflateRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
		for _, size := range []int{0, 1, 50, 1000, 16 << 10, 16<<10 + 1, 100000} {
			payload := randomText(random, size)
			got, err := feed(ws.NewReader(deflating), masked(0xC1, compress(payload, level)), 1000)
			if err != nil || len(got) != 1 || got[0] != "1:"+payload {
				t.Errorf("level %d, %d bytes: %.50q, %v", level, size, got, err)
			}
		}
	}
}

func randomText(random *rand.Rand, size int) string {
	var b strings.Builder
	for b.Len() < size {
		b.WriteString([]string{"Chappe", "télégraphe", " ", "{\"topic\":", "1793"}[random.IntN(5)])
		b.WriteByte(byte('a' + random.IntN(26)))
	}
	return strings.ToValidUTF8(b.String()[:size], "?")
}

// A bomb of 1 MB that inflates to 1 GB ends with 1009, and costs no more than
// what came and the limit.
func TestInflateBomb(t *testing.T) {
	bomb := masked(0xC2, zeros(1024))
	if len(bomb) > 1100<<10 || len(bomb) < 1000<<10 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	o := ws.Options{Deflate: true, MaxMessage: 2 << 20}
	if _, err := feed(ws.NewReader(ws.Options{Deflate: true}), bomb[:14], 14); code(err) != 1009 {
		t.Errorf("with the default limit its head gives %v, want 1009", err)
	}
	const rounds = 20
	allocated := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / rounds
	}
	b := make([]byte, len(bomb))
	whole := allocated(func() {
		for range rounds {
			copy(b, bomb) // Feed unmasks it
			if err := ws.NewReader(o).Feed(b, &record{}); code(err) != 1009 {
				t.Fatalf("Feed: %v, want 1009", err)
			}
		}
	})
	// Cut into pieces, its bytes are held, in buffers that double.
	pieces := allocated(func() {
		for range rounds {
			copy(b, bomb)
			r := ws.NewReader(o)
			var err error
			for piece := range slices.Chunk(b, 4096) {
				err = r.Feed(piece, &record{})
			}
			if code(err) != 1009 || r.Held() > 0 {
				t.Fatalf("Feed: %v, %d bytes held", err, r.Held())
			}
		}
	})
	t.Logf("allocated for a bomb: %d bytes whole, %d in pieces", whole, pieces)
	if whole > 128<<10 {
		t.Errorf("a bomb allocated %d bytes", whole)
	}
	if pieces > 2*2<<20+128<<10 {
		t.Errorf("a bomb in pieces allocated %d bytes", pieces)
	}
}

// zeros is many MiB of zero bytes, compressed. Each flushed block refers to
// itself only, so that one can be repeated.
func zeros(mebibytes int) string {
	const flushed = "\x00\x00\xff\xff"
	block := compress(string(make([]byte, 1<<20)), flate.BestCompression)
	return strings.TrimSuffix(strings.Repeat(block+flushed, mebibytes), flushed)
}

func TestAppendDeflated(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	noise := make([]byte, 5000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	for _, test := range []struct {
		name    string
		payload string
		smaller bool
	}{
		{"empty", "", false},
		{"short", "Hello", false},
		{"noise", string(noise), false},
		{"event", `{"specversion":"1.0","id":"1","source":"/a/b/c","type":"org.example.a.b.c","data":{"a":"b","b":"a","c":"abc"}}`, true},
		{"text", randomText(random, 70000), true},
		{"large", strings.Repeat("a", 10<<20), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // a new deflater and a pooled one
				frame := ws.AppendDeflated([]byte("before"), ws.OpText, []byte(test.payload))
				frame, ok := bytes.CutPrefix(frame, []byte("before"))
				if !ok {
					t.Fatal("what was in dst is lost")
				}
				payload, compressed := parse(t, frame, ws.OpText)
				if compressed != test.smaller || len(frame) > len(test.payload)+10 {
					t.Errorf("%d bytes in a frame of %d, compressed: %t", len(test.payload), len(frame), compressed)
				}
				if compressed {
					payload = inflate(t, payload)
				}
				if string(payload) != test.payload {
					t.Errorf("reads back as %.50q", payload)
				}
			}
		})
	}
}

// parse takes one final, unmasked frame apart, as a client does.
func parse(t *testing.T, frame []byte, op ws.Op) (payload []byte, compressed bool) {
	t.Helper()
	if first := frame[0] &^ rsv1; first != final|byte(op) {
		t.Fatalf("the frame begins with % x", frame[:2])
	}
	length, rest := uint64(frame[1]), frame[2:]
	switch length {
	case 126:
		length, rest = uint64(binary.BigEndian.Uint16(rest)), rest[2:]
	case 127:
		length, rest = binary.BigEndian.Uint64(rest), rest[8:]
	}
	if length != uint64(len(rest)) {
		t.Fatalf("the head says %d bytes, there are %d", length, len(rest))
	}
	return rest, frame[0]&rsv1 != 0
}

func inflate(t *testing.T, payload []byte) []byte {
	t.Helper()
	r := flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
