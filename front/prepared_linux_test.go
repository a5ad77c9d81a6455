//go:build linux && !nethttp

package front_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chappe/chappe/front"
)

// TestPostponed has requests that wait on the loop be answered by what is
// prepared, or passed on to net/http after all, in order with what is
// pipelined behind them.
func TestPostponed(t *testing.T) {
	held := make(chan *front.Exchange, 1)
	f := start(t, front.Options{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "net/http %s %s", r.URL.Path, r.Header.Get("A"))
	}), func(f *fixture) {
		f.Prepare(func(x *front.Exchange) (front.Answer, bool) {
			if strings.HasPrefix(x.Target(), "/held") {
				p, err := x.Postpone()
				if err != nil {
					t.Error(err)
				}
				held <- p
			}
			return front.Answer{}, false
		})
	})
	conn := f.dial(t)
	from := bufio.NewReader(conn)
	expect := func(want string, header http.Header) {
		t.Helper()
		res, err := http.ReadResponse(from, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || string(body) != want {
			t.Errorf("the answer is %q, %v, want %q", body, err, want)
		}
		for name := range header {
			if got := res.Header[name]; len(got) != 1 || got[0] != header.Get(name) {
				t.Errorf("%s: %q, want %q alone", name, got, header.Get(name))
			}
		}
	}
	for range 3 { // the connection goes on
		_, _ = io.WriteString(conn, "GET /held HTTP/1.1\r\nHost: a\r\nA: 1\r\n\r\nGET /other HTTP/1.1\r\nHost: a\r\nA: 2\r\n\r\n")
		x := <-held
		if x.Header("a") != "1" || x.Target() != "/held" || x.Host() != "a" {
			t.Errorf("held is %s of %s, A: %s", x.Target(), x.Host(), x.Header("a"))
		}
		x.Loop().Post(x.Pass)
		expect("net/http /held 1", nil)
		expect("net/http /other 2", nil)

		_, _ = io.WriteString(conn, "GET /held HTTP/1.1\r\nHost: a\r\n\r\nGET /other HTTP/1.1\r\nHost: a\r\nA: 3\r\n\r\n")
		x = <-held
		x.Loop().Post(func() {
			x.Reply(front.Answer{
				Head: []byte("HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 8\r\n"), Lines: []byte("Age: 7\r\n"), Body: []byte("prepared"), Dated: true,
			})
		})
		expect("prepared", http.Header{"Date": {"then"}, "Age": {"7"}})
		expect("net/http /other 3", nil)
	}
}

// TestPostponedLeaves has clients go away while they wait.
func TestPostponedLeaves(t *testing.T) {
	held := make(chan *front.Exchange, 2)
	f := start(t, front.Options{Loops: 1}, http.NotFoundHandler(), func(f *fixture) {
		f.Prepare(func(x *front.Exchange) (front.Answer, bool) {
			if p, err := x.Postpone(); err == nil {
				held <- p
			}
			return front.Answer{}, false
		})
	})
	for range 2 {
		conn := f.dial(t)
		_, _ = io.WriteString(conn, "GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
		x := <-held
		conn.Close()
		await(t, "the connection to be gone", func() bool { return f.Loops()[0].Len() == 0 })
		done := make(chan struct{})
		x.Loop().Post(func() {
			defer close(done)
			x.Reply(front.Answer{Head: []byte("HTTP/1.1 200 OK\r\n")})
			x.Pass()
		})
		<-done
	}
}

// TestPreparedClose has clients that do not keep their connections, as nginx
// does not if it is not told to.
func TestPreparedClose(t *testing.T) {
	body := strings.Repeat("x", 1<<20)
	f := start(t, front.Options{Loops: 1}, http.NotFoundHandler(), func(f *fixture) {
		f.Prepare(func(x *front.Exchange) (front.Answer, bool) {
			a := front.Answer{Head: fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n", len(body)), Body: []byte(body)}
			if x.Target() != "/held" {
				return a, true
			}
			if p, err := x.Postpone(); err == nil {
				x.Loop().Post(func() { p.Reply(a) })
			}
			return front.Answer{}, false
		})
	})
	for _, request := range []string{"GET %s HTTP/1.0\r\n\r\n", "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"} {
		for _, path := range []string{"/", "/held"} {
			conn := f.dial(t)
			fmt.Fprintf(conn, request, path)
			all, err := io.ReadAll(conn)
			head, got, _ := strings.Cut(string(all), "\r\n\r\n")
			if err != nil || got != body || !strings.Contains(head, "\r\nConnection: close") || strings.Count(head, "Date: ") != 1 {
				t.Errorf(request+" has %d bytes, %v, after %q", path, len(got), err, head)
			}
		}
	}
	await(t, "the connections to be gone", func() bool { return f.Loops()[0].Len() == 0 })
}
