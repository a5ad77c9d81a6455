package swarm

import (
	"bytes"
	"testing"
	"time"
)

func TestPayload(t *testing.T) {
	sent := time.Unix(1_795_000_000, 123)
	for _, size := range []int{0, 60, 128, 256} {
		b := Payload(42, sent, size)
		if len(b) != size && size >= 60 {
			t.Errorf("Payload of %d bytes has %d", size, len(b))
		}
		wrapped := append([]byte(`{"specversion":"1.0","cursor":"abc.7","data":`), b...)
		n, at, ok := mark(wrapped)
		if n != 42 || at != sent.UnixNano() || !ok {
			t.Errorf("mark(%s) = %d, %d, %v", wrapped, n, at, ok)
		}
		if got := field(wrapped, `"cursor":"`); string(got) != "abc.7" {
			t.Errorf("field() = %q", got)
		}
	}
	for _, m := range []string{"", `{"swarm":[`, `{"swarm":[1]`, `{"swarm":[]}`} {
		if _, _, ok := mark([]byte(m)); ok {
			t.Errorf("mark(%q) found one", m)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h, other Histogram
	for i := 1; i <= 10_000; i++ {
		if i%2 == 0 {
			h.Record(time.Duration(i) * time.Microsecond)
		} else {
			other.Record(time.Duration(i) * time.Microsecond)
		}
	}
	h.Merge(&other)
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0, time.Microsecond}, {0.5, 5 * time.Millisecond}, {0.99, 9900 * time.Microsecond}, {1, 10 * time.Millisecond}} {
		if got := h.Quantile(c.q); got < c.want || got > c.want*104/100 {
			t.Errorf("Quantile(%v) = %v, want %v and at most 4%% more", c.q, got, c.want)
		}
	}
	if h.Count() != 10_000 || h.Max() != 10*time.Millisecond {
		t.Errorf("Count, Max = %d, %v", h.Count(), h.Max())
	}
	for i := range len(h.counts) {
		if got := bucket(uint64(top(i))); got != i && i < 1887 {
			t.Fatalf("top of bucket %d is in bucket %d", i, got)
		}
	}
}

func TestNextFrame(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 300)
	good := []struct {
		b    []byte
		op   byte
		size int
	}{
		{[]byte("\x81\x02hi"), opText, 2},
		{append([]byte("\x82\x7e\x01\x2c"), long...), opBinary, 300},
		{append([]byte("\x01\x7f\x00\x00\x00\x00\x00\x00\x01\x2c"), long...), opText, 300},
		{[]byte("\x89\x00"), opPing, 0},
	}
	for _, c := range good {
		f, size, err := nextFrame(append(c.b, "more"...), 1000)
		if f.op != c.op || len(f.payload) != c.size || size != len(c.b) || err != nil {
			t.Errorf("nextFrame(%.10q) = op %d, %d bytes, size %d, %v", c.b, f.op, len(f.payload), size, err)
		}
		for n := range c.b {
			if _, size, err := nextFrame(c.b[:n], 1000); size != 0 || err != nil {
				t.Errorf("nextFrame(%.10q) = size %d, %v, want to wait for the rest", c.b[:n], size, err)
			}
		}
	}
	for _, bad := range []string{"\x81\x82aaaahi", "\xc1\x02hi", "\x89\x7e\x01\x2c", "\x09\x00", "\x81\x7e\x10\x00", "\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff"} {
		if _, _, err := nextFrame([]byte(bad), 1000); err == nil {
			t.Errorf("nextFrame(%q) took it", bad)
		}
	}
}

func TestAppendFrame(t *testing.T) {
	for _, n := range []int{0, 125, 126, 70_000} {
		payload := bytes.Repeat([]byte("ab"), n)[:n]
		b := appendFrame(nil, opText, payload, 0x01020304)
		head := len(b) - n
		for i := range payload {
			b[head+i] ^= byte(1 + i&3)
		}
		if !bytes.Equal(b[head:], payload) || b[1]&0x80 == 0 {
			t.Errorf("a frame of %d bytes does not hold its payload", n)
		}
	}
}

func TestUnframeCutAnywhere(t *testing.T) {
	const text, want = "5;x=y\r\nhello\r\n1\r\n \r\n00A\r\n0123456789\r\n0\r\n\r\n", "hello 0123456789"
	for first := range len(text) {
		for second := first; second < len(text); second++ {
			c, got := conn{}, ""
			for _, part := range []string{text[:first], text[first:second], text[second:]} {
				out, err := c.unframe([]byte(part))
				if err != nil {
					t.Fatalf("cut at %d and %d: %v", first, second, err)
				}
				got += string(out)
			}
			if got != want || c.chunkState != bodyOver {
				t.Fatalf("cut at %d and %d: %q", first, second, got)
			}
		}
	}
	for _, bad := range []string{"x", "fffffffffff\r\n"} {
		if _, err := new(conn).unframe([]byte(bad)); err == nil {
			t.Errorf("unframe(%q) took it", bad)
		}
	}
}

func TestDelay(t *testing.T) {
	most := func() float64 { return 1 }
	greeted := conn{state: live, flags: met, retryMin: 2000, retryMax: 8000}
	with := func(change func(*conn)) conn {
		c := greeted
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		o    Options
		conn conn
		why  why
		want time.Duration
	}{
		"stays away":                   {Options{}, greeted, lost, -1},
		"at once":                      {Options{Policy: Naive}, greeted, lost, 0},
		"naive with jitter":            {Options{Policy: Naive, Delay: 1, Jitter: time.Second}, greeted, lost, time.Second + 1},
		"lost":                         {Options{Policy: Chappe}, greeted, lost, 8 * time.Second},
		"silent":                       {Options{Policy: Chappe}, greeted, silent, 0},
		"told":                         {Options{Policy: Chappe}, with(func(c *conn) { c.told = 5000 }), lost, 5 * time.Second},
		"told very soon":               {Options{Policy: Chappe}, with(func(c *conn) { c.told = 5 }), lost, time.Second},
		"expired":                      {Options{Policy: Chappe}, with(func(c *conn) { c.flags |= expired }), lost, time.Second},
		"refused for good":             {Options{Policy: Chappe}, greeted, refused, -1},
		"never greeted":                {Options{Policy: Chappe}, conn{state: dialing}, lost, time.Second},
		"third attempt, never greeted": {Options{Policy: Chappe}, conn{state: dialing, tries: 2}, lost, 4 * time.Second},
		"second attempt":               {Options{Policy: Chappe}, with(func(c *conn) { c.state, c.tries = asking, 1 }), lost, 16 * time.Second},
		"the most":                     {Options{Policy: Chappe}, with(func(c *conn) { c.state, c.tries = asking, 29 }), lost, time.Minute},
	} {
		if got := c.o.delay(&c.conn, c.why, most); got != c.want {
			t.Errorf("%s: delay = %v, want %v", name, got, c.want)
		}
	}
}

func TestNumber(t *testing.T) {
	var c conn
	for _, n := range []uint64{5, 6, 6, 9, 8, 10} {
		c.number(n)
	}
	if c.missed != 2 || c.doubled != 2 || c.last != 10 {
		t.Errorf("missed, doubled, last = %d, %d, %d, want 2, 2, 10", c.missed, c.doubled, c.last)
	}
}

func TestMostIn(t *testing.T) {
	if got := mostIn([]uint32{1, 5, 0, 2, 4, 3, 0}, 3); got != 9 {
		t.Errorf("mostIn = %d, want 9", got)
	}
}

func FuzzParsers(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nRetry-After: 3\r\n\r\n5\r\nhello\r\n"))
	f.Add([]byte("\x81\x05hello\x88\x02\x03\xf5"))
	f.Add([]byte(`{"control":"hello","retry":[1,2]} {"swarm":[1,2],"cursor":"a"`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _, _ = readAnswer(b)
		_, _, _ = mark(b)
		_, _ = number(b, `"retry":[`)
		_ = field(b, `"cursor":"`)
		rest := b
		for {
			_, size, err := nextFrame(rest, 100)
			if size == 0 || err != nil {
				break
			}
			rest = rest[size:]
		}
		_, _ = new(conn).unframe(bytes.Clone(b))
	})
}
