package head_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/internal/head"
)

// upgrade is what Firefox sends to open a WebSocket.
const upgrade = "GET /connection/websocket?format=json HTTP/1.1\r\n" +
	"Host: push.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
	"Accept: */*\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\n" +
	"Sec-WebSocket-Version: 13\r\n" +
	"Origin: https://www.example.com\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Connection: keep-alive, Upgrade\r\n" +
	"Upgrade: websocket\r\n\r\n"

// view is a Request in strings.
type view struct {
	Method, Target, Path, Query, Host, Upgrade string

	Minor     int
	Length    int64
	KeepAlive bool
	Expect    bool
}

func viewOf(r *head.Request) view {
	return view{
		string(r.Method), string(r.Target), string(r.Path), string(r.Query), string(r.Host), string(r.Upgrade),
		r.Minor, r.Length, r.KeepAlive, r.Expect,
	}
}

// outcome is the status that an error asks for: 0 for ErrIncomplete, 200 for
// none, 2 for ErrHTTP2.
func outcome(t *testing.T, err error) int {
	t.Helper()
	refused, isError := errors.AsType[*head.Error](err)
	switch {
	case err == nil:
		return 200
	case errors.Is(err, head.ErrIncomplete):
		return 0
	case errors.Is(err, head.ErrHTTP2):
		return 2
	case !isError || refused.Status < 400 || refused.Status > 599 || refused.Reason == "":
		t.Fatalf("error %#v", err)
	}
	return refused.Status
}

func TestParse(t *testing.T) {
	get := view{Method: "GET", Target: "/", Path: "/", Minor: 1, Host: "h", KeepAlive: true}
	with := func(change func(*view)) view {
		v := get
		change(&v)
		return v
	}
	tests := []struct {
		name, head string
		want       view
	}{
		{"smallest", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", get},
		{"after an empty line", "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", get},
		{"no space before a value", "GET / HTTP/1.1\r\nHost:h\r\n\r\n", get},
		{"space and tabs around a value", "GET / HTTP/1.1\r\nHost: \t h \t\r\n\r\n", get},
		{"empty value", "GET / HTTP/1.1\r\nHost: h\r\nA:\r\nB: \r\n\r\n", get},
		{"name in capitals", "GET / HTTP/1.1\r\nHOST: h\r\n\r\n", get},
		{"bytes above ASCII in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: \xc3\xa9\xff\r\n\r\n", get},
		{"method of our own", "x-purge / HTTP/1.1\r\nHost: h\r\n\r\n", with(func(v *view) { v.Method = "x-purge" })},
		{"WebSocket", upgrade, view{
			Method: "GET", Target: "/connection/websocket?format=json", Path: "/connection/websocket", Query: "format=json",
			Minor: 1, Host: "push.example.com", KeepAlive: true, Upgrade: "websocket",
		}},

		{"escapes stay", "GET /a%2Fb%00?c=%zz HTTP/1.1\r\nHost: h\r\n\r\n",
			with(func(v *view) { v.Target, v.Path, v.Query = "/a%2Fb%00?c=%zz", "/a%2Fb%00", "c=%zz" })},
		{"two question marks", "GET /?a?b HTTP/1.1\r\nHost: h\r\n\r\n",
			with(func(v *view) { v.Target, v.Query = "/?a?b", "a?b" })},
		{"path like an authority", "GET //evil.example/x HTTP/1.1\r\nHost: h\r\n\r\n",
			with(func(v *view) { v.Target, v.Path = "//evil.example/x", "//evil.example/x" })},
		{"options of the server", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
			with(func(v *view) { v.Method, v.Target, v.Path = "OPTIONS", "*", "*" })},
		{"absolute", "GET http://h:80/a?b HTTP/1.1\r\nHost: h:80\r\n\r\n",
			with(func(v *view) { v.Target, v.Path, v.Query, v.Host = "http://h:80/a?b", "/a", "b", "h:80" })},
		{"absolute in capitals", "GET HTTPS://H/ HTTP/1.1\r\nHost: h\r\n\r\n",
			with(func(v *view) { v.Target, v.Host = "HTTPS://H/", "H" })},
		{"absolute without a path", "GET http://h?b/c HTTP/1.1\r\nHost: h\r\n\r\n",
			with(func(v *view) { v.Target, v.Path, v.Query = "http://h?b/c", "", "b/c" })},
		{"absolute in HTTP/1.0", "GET http://h/ HTTP/1.0\r\n\r\n",
			with(func(v *view) { v.Target, v.Minor, v.KeepAlive = "http://h/", 0, false })},

		{"Host with a port", "GET / HTTP/1.1\r\nHost: h.example:65535\r\n\r\n", with(func(v *view) { v.Host = "h.example:65535" })},
		{"Host of IPv4", "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n", with(func(v *view) { v.Host = "127.0.0.1:8080" })},
		{"Host of IPv6", "GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n", with(func(v *view) { v.Host = "[2001:db8::1]" })},
		{"Host of IPv6 with a port", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", with(func(v *view) { v.Host = "[::1]:8080" })},
		{"no Host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", with(func(v *view) { v.Host, v.Minor, v.KeepAlive = "", 0, false })},

		{"body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
			with(func(v *view) { v.Method, v.Length = "POST", 5 })},
		{"largest body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4611686018427387904\r\n\r\n",
			with(func(v *view) { v.Method, v.Length = "POST", 1<<62 })},
		{"chunked", "POST / HTTP/1.1\r\nHost: h\r\ntransfer-encoding: Chunked\r\n\r\n",
			with(func(v *view) { v.Method, v.Length = "POST", -1 })},
		{"Expect", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n",
			with(func(v *view) { v.Method, v.Length, v.Expect = "POST", 5, true })},
		{"empty Expect", "GET / HTTP/1.1\r\nHost: h\r\nExpect:\r\n\r\n", get},
		{"Expect in HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
			with(func(v *view) { v.Minor, v.KeepAlive = 0, false })},

		{"close", "GET / HTTP/1.1\r\nHost: h\r\nConnection: x , Close\r\n\r\n", with(func(v *view) { v.KeepAlive = false })},
		{"close wins", "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
			with(func(v *view) { v.KeepAlive = false })},
		{"close in a word", "GET / HTTP/1.1\r\nHost: h\r\nConnection: closed, not-close\r\n\r\n", get},
		{"HTTP/1.0 kept", "GET / HTTP/1.0\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n", with(func(v *view) { v.Minor = 0 })},
		{"HTTP/1.0 closed", "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive, close\r\n\r\n",
			with(func(v *view) { v.Minor, v.KeepAlive = 0, false })},

		{"Upgrade not listed", "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", get},
		{"listed without Upgrade", "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n\r\n", get},
		{"two Upgrades", "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a\r\nUpgrade: websocket\r\n\r\n", get},
		{"Upgrade in HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
			with(func(v *view) { v.Minor, v.KeepAlive = 0, false })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r head.Request
			if err := r.Parse([]byte(tt.head)); err != nil {
				t.Fatalf("Parse(%q): %v", tt.head, err)
			}
			if diff := cmp.Diff(tt.want, viewOf(&r)); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", tt.head, diff)
			}
			if want := strings.Index(tt.head, "\r\n\r\n") + 4; r.Size != want {
				t.Errorf("Size = %d, want %d", r.Size, want)
			}
		})
	}
}

func TestParseTwice(t *testing.T) {
	var r head.Request
	for _, b := range []string{"POST http://a/?q HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"} {
		if err := r.Parse([]byte(b)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(view{Method: "GET", Target: "/", Path: "/"}, viewOf(&r)); diff != "" || r.Count("x") > 0 {
		t.Errorf("something of the first head is left: %s", diff)
	}
}

func TestFields(t *testing.T) {
	var r head.Request
	err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: a\r\nX-forwarded-for:  b \r\nEmpty:\r\nX_Forwarded_For: c\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		first  string
		count  int
		joined string
	}{
		{"host", "h", 1, "h"},
		{"x-forwarded-for", "a", 2, "a,b"},
		{"x_forwarded_for", "c", 1, "c"},
		{"empty", "", 1, ""},
		{"x-forwarded", "", 0, ""},
	}
	for _, tt := range tests {
		first, count, joined := r.Get(tt.name), r.Count(tt.name), r.Joined(tt.name)
		if string(first) != tt.first || (first == nil) != (tt.count == 0) || count != tt.count || joined != tt.joined {
			t.Errorf("%s: %q, %d, %q", tt.name, first, count, joined)
		}
	}
}

func TestLimits(t *testing.T) {
	const start = "GET / HTTP/1.1\r\nHost: h\r\n"
	fields := func(n int) string { return strings.Repeat("a: b\r\n", n-1) }
	line := func(n int) string { return "GET /" + strings.Repeat("a", n-len("GET / HTTP/1.1")) + " HTTP/1.1" }
	fill := func(n int) string { return start + "a: " + strings.Repeat("b", n-len(start+"a: \r\n\r\n")) }
	tests := []struct {
		name, head string
		want       int
	}{
		{"64 fields", start + fields(64) + "\r\n", 200},
		{"65 fields", start + fields(65) + "\r\n", 431},
		{"a 65th begins", start + fields(64) + "a", 431},
		{"line of 8 KiB", line(8<<10) + "\r\nHost: h\r\n\r\n", 200},
		{"line above 8 KiB", line(8<<10+1) + "\r\nHost: h\r\n\r\n", 414},
		{"endless target", "GET /" + strings.Repeat("a", 9<<10), 414},
		{"endless method", strings.Repeat("A", 33), 501},
		{"head of 64 KiB", fill(64<<10) + "\r\n\r\n", 200},
		{"head above 64 KiB", fill(64<<10+1) + "\r\n\r\n", 431},
		{"head still without an end", fill(64<<10) + "\r\n", 0},
		{"endless value", fill(65 << 10), 431},
		{"endless name", start + strings.Repeat("a", 65<<10), 431},
		{"head of 64 KiB and a body", fill(64<<10) + "\r\n\r\n" + strings.Repeat("x", 64<<10), 200},
	}
	for _, tt := range tests {
		var r head.Request
		if got := outcome(t, r.Parse([]byte(tt.head))); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestEarly wants what can become nothing to be refused while it comes in.
func TestEarly(t *testing.T) {
	for _, b := range []string{
		"\x16", "\n", "\rG", "\r\n\r", " ", "GET\t", "G:", "GET  ", "GET a", "GET /\x00", "GET /\r", "GET / X", "GET / HTTP/1.1\n",
		"GET / HTTP/1.1 ", "GET / HTTP/1.1\r\n ", "GET / HTTP/1.1\r\n:", "GET / HTTP/1.1\r\nHost ", "GET / HTTP/1.1\r\nA: \x00",
		"GET / HTTP/1.1\r\nA: \rb", "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n", "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
		"GET * HTTP/1.1", "CONNECT h:1 HTTP/1.1", "GET http://a/ HTTP/1.1\r\nHost: b\r\n",
	} {
		var r head.Request
		if got := outcome(t, r.Parse([]byte(b))); got != 400 {
			t.Errorf("Parse(%q): %d, want 400", b, got)
		}
		if got := outcome(t, r.Parse([]byte(b[:len(b)-1]))); got != 0 {
			t.Errorf("Parse(%q): %d, want ErrIncomplete", b[:len(b)-1], got)
		}
	}
}

func TestHTTP2(t *testing.T) {
	for b, want := range map[string]int{
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 2,
		"PRI * HTTP/2.":                    0,
		"PRI / HTTP/2.0\r\n\r\n":           505,
		"GET * HTTP/2.0\r\n\r\n":           505,
		"PRI * HTTP/1.1\r\nHost: h\r\n":    400,
	} {
		var r head.Request
		if got := outcome(t, r.Parse([]byte(b))); got != want {
			t.Errorf("Parse(%q): %d, want %d", b, got, want)
		}
	}
}

func TestParseAllocates(t *testing.T) {
	b := []byte(upgrade)
	partial := b[:len(b)-1]
	var r head.Request
	allocs := testing.AllocsPerRun(100, func() {
		if err := r.Parse(partial); !errors.Is(err, head.ErrIncomplete) {
			t.Fatal(err)
		}
		if err := r.Parse(b); err != nil {
			t.Fatal(err)
		}
		if string(r.Get("sec-websocket-version")) != "13" || r.Count("origin") != 1 {
			t.Fatal("fields not found")
		}
	})
	if allocs != 0 {
		t.Errorf("Parse allocates %v times", allocs)
	}
}

func BenchmarkParse(b *testing.B) {
	in := []byte(upgrade)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	var r head.Request
	for b.Loop() {
		if err := r.Parse(in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParseSlow is the worst that a head of 64 KiB can cost for each of
// the bytes it comes in.
func BenchmarkParseSlow(b *testing.B) {
	in := []byte(fmt.Sprintf("GET / HTTP/1.1\r\nHost: h\r\nA: %s", strings.Repeat("b", 65000)))
	b.SetBytes(int64(len(in)))
	var r head.Request
	for b.Loop() {
		if err := r.Parse(in); !errors.Is(err, head.ErrIncomplete) {
			b.Fatal(err)
		}
	}
}

func BenchmarkHTTP(b *testing.B) {
	var r head.Request
	if err := r.Parse([]byte(upgrade)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.HTTP("192.0.2.1:1", nil); err != nil {
			b.Fatal(err)
		}
	}
}
