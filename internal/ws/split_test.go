package ws_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/chappe/chappe/internal/ws"
)

// readSplit feeds input in pieces whose sizes random gives, and drops the
// reader whenever it is idle.
func readSplit(o ws.Options, input []byte, random *rand.Rand) (got []string, err error) {
	input = bytes.Clone(input)
	r, h := ws.NewReader(o), &record{}
	for len(input) > 0 && err == nil {
		n := 1 + random.IntN(min(len(input), 1+random.IntN(300)))
		err = r.Feed(input[:n], h)
		input = input[n:]
		if r.Idle() {
			r = ws.NewReader(o)
		}
	}
	return h.got, err
}

// stream is a random client: mostly of good frames.
func stream(random *rand.Rand) []byte {
	var b []byte
	for range 1 + random.IntN(12) {
		payload := strings.Repeat([]string{"a", "é", "€", "𐍈", "\xff"}[random.IntN(20)%5], random.IntN(90))
		cut := random.IntN(len(payload) + 1)
		switch random.IntN(9) {
		case 0:
			b = append(b, masked(0x89, payload[:min(len(payload), 125)])...)
		case 1:
			b = append(b, masked(0x8A, "")...)
		case 2, 3:
			b = append(b, masked(text, payload[:cut])...)
			b = append(b, masked(0x89, "between")...)
			b = append(b, masked(final|more, payload[cut:])...)
		case 4:
			b = append(b, masked(final|octets, payload)...)
		case 5:
			b = append(b, deflated(text, payload)...)
		case 6:
			b = append(b, masked(byte(random.Uint32()), payload)...)
		default:
			b = append(b, masked(final|text, payload)...)
		}
	}
	return b
}

func TestSplitsAreEquivalent(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	messages, faults := 0, 0
	for range 1000 {
		input := stream(random)
		o := ws.Options{MaxMessage: 300, MaxFragments: 3, Deflate: random.IntN(2) == 0}
		want, wantErr := feed(ws.NewReader(o), input, len(input))
		bytewise, bytewiseErr := feed(ws.NewReader(o), input, 1)
		split, splitErr := readSplit(o, input, random)
		if !slices.Equal(want, bytewise) || code(wantErr) != code(bytewiseErr) {
			t.Fatalf("% x:\nwhole %q, %v\nbytes %q, %v", input, want, wantErr, bytewise, bytewiseErr)
		}
		if !slices.Equal(want, split) || code(wantErr) != code(splitErr) {
			t.Fatalf("% x:\nwhole %q, %v\nsplit %q, %v", input, want, wantErr, split, splitErr)
		}
		messages += len(want)
		faults += min(1, int(code(wantErr)))
	}
	if messages < 1000 || faults < 100 {
		t.Errorf("%d messages and %d faults: too few to show anything", messages, faults)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(join(masked(text, "\xe2"), masked(0x89, "p"), masked(final|more, "\x82\xac")), uint64(1), false)
	f.Add(join(deflated(text, strings.Repeat("abc", 50)), masked(0x88, "\x03\xe8bye")), uint64(2), true)
	f.Add(join(masked(rsv1|text, "\xf2\x48\xcd"), masked(final|more, "\xc9\xc9\x07\x00")), uint64(3), true)
	f.Add([]byte{final | text, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4}, uint64(4), false)
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 20 {
		f.Add(stream(random), uint64(i), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, input []byte, seed uint64, deflate bool) {
		o := ws.Options{MaxMessage: 2000, MaxFragments: 5, Deflate: deflate}
		r, h := ws.NewReader(o), &record{}
		err := r.Feed(bytes.Clone(input), h)
		if held := r.Held(); held > 2*min(len(input), 2000)+64 {
			t.Errorf("%d bytes came, room for %d is held", len(input), held)
		}
		for _, message := range h.got {
			if len(message) > len("10:")+2000 {
				t.Errorf("a message of %d bytes", len(message))
			}
		}
		split, splitErr := readSplit(o, input, rand.New(rand.NewPCG(seed, 0)))
		if !slices.Equal(h.got, split) || code(err) != code(splitErr) {
			t.Errorf("whole %q, %v\nsplit %q, %v", h.got, err, split, splitErr)
		}
	})
}
