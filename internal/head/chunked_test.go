package head_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chappe/chappe/internal/head"
)

const rest = "GET / HTTP/1.1\r\n"

func TestChunked(t *testing.T) {
	for _, body := range []string{
		"0\r\n\r\n",
		"000\r\n\r\n",
		"5\r\nhello\r\n0\r\n\r\n",
		"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
		"000000000000005\r\nhello\r\n0\r\n\r\n",
		"5\r\n0\r\n\r\n\r\n0\r\n\r\n",
		"5;a\r\nhello\r\n0;b=c;d=\"e f\"\r\n\r\n",
		"5;" + strings.Repeat("a", 256) + "\r\nhello\r\n0\r\n\r\n",
		strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\nb\r\n", 3) + "0\r\n\r\n",
		"0\r\nX-Sum: 1\r\nX:\r\n\r\n",
		"0\r\nX: \xc3\xa9\ty\r\n\r\n",
		"0\r\nContent-Lengths: 1\r\nX-Transfer-Encoding: a\r\nTransfer-Encodings: b\r\n\r\n",
		"0\r\nA: " + strings.Repeat("b", 8<<10-len("A: \r\n\r\n")) + "\r\n\r\n",
	} {
		var c head.Chunked
		n, done, err := c.Scan([]byte(body + rest))
		if n != len(body) || !done || err != nil {
			t.Errorf("Scan(%q) = %d, %v, %v, want %d", body+rest, n, done, err, len(body))
		}
		if n, done, err := c.Scan([]byte(rest)); n != 0 || !done || err != nil {
			t.Errorf("after the end: %d, %v, %v", n, done, err)
		}
		if n, ok := scanBytes(body + rest); n != len(body) || !ok {
			t.Errorf("byte by byte: %d, %v", n, ok)
		}
	}
}

// scanBytes gives a Chunked one byte after the other.
func scanBytes(body string) (n int, ok bool) {
	var c head.Chunked
	for n < len(body) {
		taken, done, err := c.Scan([]byte(body[n : n+1]))
		n += taken
		if done || err != nil {
			return n, err == nil
		}
	}
	return n, false
}

func TestChunkedRefuses(t *testing.T) {
	for name, body := range map[string]string{
		"no size":                 "\r\n\r\n",
		"extension only":          ";a\r\n\r\n",
		"size with prefix":        "0x5\r\nhello\r\n",
		"size with underscore":    "1_0\r\n",
		"size with sign":          "+5\r\nhello\r\n",
		"size negative":           "-1\r\n",
		"space before the size":   " 5\r\nhello\r\n",
		"space after the size":    "5 \r\nhello\r\n",
		"tab after the size":      "5\t\r\nhello\r\n",
		"space before extension":  "5 ;a\r\nhello\r\n",
		"size of 16 digits":       "0000000000000005\r\nhello\r\n",
		"size of 17 digits":       "10000000000000005\r\nhello\r\n",
		"size by bare LF":         "5\nhello\r\n",
		"size by bare CR":         "5\rhello\r\n",
		"size by CRCRLF":          "5\r\r\nhello\r\n",
		"size not hexadecimal":    "g\r\n",
		"size with NUL":           "5\x00\r\nhello\r\n",
		"LF in an extension":      "5;a\nhello\r\n",
		"LF in a quoted one":      "5;a=\"\nx\"\r\nhello\r\n",
		"CR in an extension":      "5;a\rb\r\nhello\r\n",
		"NUL in an extension":     "5;a\x00\r\nhello\r\n",
		"extension above ASCII":   "5;a=\xff\r\nhello\r\n",
		"extension too long":      "5;" + strings.Repeat("a", 257),
		"no CRLF after data":      "5\r\nhello0\r\n\r\n",
		"LF after data":           "5\r\nhello\n0\r\n\r\n",
		"CR after data":           "5\r\nhello\r0\r\n\r\n",
		"data too long":           "5\r\nhello!\r\n0\r\n\r\n",
		"data too short":          "6\r\nhello\r\n0\r\n\r\n",
		"two CRLF after data":     "5\r\nhello\r\n\r\n0\r\n\r\n",
		"end by bare LF":          "0\r\n\n",
		"end by CR":               "0\r\n\rG",
		"last size by bare LF":    "0\n\r\n",
		"trailer CL":              "0\r\nContent-Length: 5\r\n\r\n",
		"trailer TE":              "0\r\ntransfer-ENCODING: chunked\r\n\r\n",
		"trailer TE, underscore":  "0\r\nTransfer_Encoding: chunked\r\n\r\n",
		"trailer Host":            "0\r\nA: b\r\nHost: h\r\n\r\n",
		"trailer Trailer":         "0\r\nTrailer: a\r\n\r\n",
		"trailer Connection":      "0\r\nConnection: close\r\n\r\n",
		"trailer without a name":  "0\r\n: a\r\n\r\n",
		"trailer without a colon": "0\r\nGET / HTTP/1.1\r\n\r\n",
		"trailer name and space":  "0\r\nA : b\r\n\r\n",
		"trailer folded":          "0\r\nA: b\r\n c\r\n\r\n",
		"trailer by bare LF":      "0\r\nA: b\n\r\n",
		"trailer by bare CR":      "0\r\nA: b\rC: d\r\n\r\n",
		"trailer with NUL":        "0\r\nA: \x00\r\n\r\n",
		"trailers too long":       "0\r\nA: " + strings.Repeat("b", 8<<10-len("A: \r\n\r\n")+1) + "\r\n\r\n",
	} {
		body += "0\r\n\r\n" // a laxer reader is content
		var c head.Chunked
		n, done, err := c.Scan([]byte(body + rest))
		if done || outcome(t, err) < 400 {
			t.Errorf("%s: Scan(%q) = %d, %v, %v", name, body, n, done, err)
		}
		if n2, done, again := c.Scan([]byte("0\r\n\r\n")); n2 != 0 || done || again != err {
			t.Errorf("%s: after the error: %d, %v, %v", name, n2, done, again)
		}
		if n1, ok := scanBytes(body + rest); n1 != n || ok {
			t.Errorf("%s: byte by byte: %d, %v, want %d", name, n1, ok, n)
		}
	}
}

func TestChunkedAllocates(t *testing.T) {
	body := []byte("5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
	allocs := testing.AllocsPerRun(100, func() {
		var c head.Chunked
		if _, done, err := c.Scan(body); !done || err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("Scan allocates %v times", allocs)
	}
}

func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"5\r\nhello\r\n0\r\n\r\nGET", "A;b=\"c d\"\r\n0123456789\r\n0;e\r\nX-Sum: 1\r\n\r\n", "0x5\r\n", "5 \r\nhello\r\n0\r\n\r\n",
		"0\r\nContent-Length: 5\r\n\r\n", "5\nhello\n0\n\n", "0\r\nA: b\r\n c\r\n\r\nhello", "000000000000000f\r\n", "1\r\na\r\n1\r\nb\r\n0\r\n\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var c head.Chunked
		n, done, err := c.Scan([]byte(body))
		if n > len(body) || done && err != nil || err == nil && !done && n != len(body) {
			t.Fatalf("Scan(%q) = %d, %v, %v", body, n, done, err)
		}
		if one, ok := scanBytes(body); one != n || ok != done {
			t.Errorf("Scan(%q) = %d, %v; byte by byte %d, %v", body, n, done, one, ok)
		}
		if done {
			compareEnd(t, body, n)
		}
	})
}

// TestChunkedEveryByte is TestEveryByte for a body.
func TestChunkedEveryByte(t *testing.T) {
	const in = "5;a=b\r\nhello\r\n0A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"
	accepted := 0
	for i := range in {
		for _, c := range alphabet() {
			for _, body := range []string{in[:i] + string([]byte{c}) + in[i:], in[:i] + string([]byte{c}) + in[i+1:]} {
				var chunked head.Chunked
				if n, done, _ := chunked.Scan([]byte(body + rest)); done {
					accepted++
					compareEnd(t, body+rest, n)
				}
			}
		}
	}
	if accepted == 0 {
		t.Error("nothing is accepted")
	}
}

// compareEnd wants net/http to end the body where Chunked did, or to refuse it
// for a reason that Chunked has not: net/http weighs overhead against data.
func compareEnd(t *testing.T, body string, n int) {
	t.Helper()
	end, err := httpBodyEnd(body)
	if err != nil && !strings.Contains(err.Error(), "too much non-data") {
		t.Errorf("net/http refuses %q: %v", body, err)
	}
	if err == nil && end != n {
		t.Errorf("%q ends at %d, for net/http at %d", body, n, end)
	}
}

// httpBodyEnd is where net/http finds the end of a chunked body.
func httpBodyEnd(body string) (int, error) {
	src := strings.NewReader("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
	br := bufio.NewReaderSize(src, 64<<10)
	req, err := http.ReadRequest(br)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return len(body) - src.Len() - br.Buffered(), err
}
