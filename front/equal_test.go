package front_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/loop"
)

// answerOf is what each path of the test answers, whoever does.
func answerOf(path string) []byte {
	if size, ok := strings.CutPrefix(path, "/large"); ok {
		n, _ := strconv.Atoi(size)
		return bytes.Repeat([]byte{'a' + byte(n%26)}, 20_000+n*1000)
	}
	return []byte("answer to " + path)
}

// plain is the same server all by net/http.
func plain() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		b := answerOf(r.URL.Path)
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b)
	})
	mux.HandleFunc("POST /digest", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, h.Sum(nil), err)
	})
	mux.HandleFunc("POST /early", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted) // the body is not read
	})
	mux.HandleFunc("POST /limited", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1000)); err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})
	mux.HandleFunc("POST /wait", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(append([]byte("waited for "), b...))
	})
	return mux
}

// mixed answers by all three ways of a front: prepared, on the loop (at once
// and held), and net/http.
func mixed(f *fixture) {
	f.Prepare(func(x *front.Exchange) (front.Answer, bool) {
		path := string(x.Path())
		if !strings.HasPrefix(path, "/prepared") && !strings.HasPrefix(path, "/large") {
			return front.Answer{}, false
		}
		body := answerOf(path)
		return front.Answer{Head: []byte("HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"), Body: body}, true
	})
	f.Handle("/now", func(x *front.Exchange) { x.Answer(http.StatusOK, nil, answerOf("/now")) })
	later := func(text string) front.Waiting {
		return func(x *front.Exchange) {
			held, err := x.Hold()
			if err != nil {
				x.Answer(http.StatusBadRequest, nil, nil)
				return
			}
			go x.Loop().Post(func() { held.Answer(http.StatusOK, nil, append([]byte(text), held.Body()...)) })
		}
	}
	f.Handle("/later", later("answer to /later"))
	f.HandlePost("/wait", later("waited for "))
}

// ask is one request of a script, as bytes and what it takes to read its answer.
type ask struct{ method, text string }

func randomAsk(r *rand.Rand) ask {
	const host = "Host: 127.0.0.1\r\n"
	body := strings.Repeat("0123456789abcdef", r.IntN(400))
	switch r.IntN(14) {
	case 0, 1:
		return ask{"GET", "GET /prepared" + strconv.Itoa(r.IntN(9)) + " HTTP/1.1\r\n" + host + "\r\n"}
	case 2:
		return ask{"GET", "GET /large" + strconv.Itoa(r.IntN(300)) + " HTTP/1.1\r\n" + host + "\r\n"}
	case 3, 4:
		return ask{"GET", "GET /now HTTP/1.1\r\n" + host + "\r\n"}
	case 5, 6:
		return ask{"GET", "GET /later HTTP/1.1\r\n" + host + "\r\n"}
	case 7:
		return ask{"GET", "GET /nethttp?a=b HTTP/1.1\r\n" + host + "\r\n"}
	case 8:
		return ask{"HEAD", "HEAD /large4 HTTP/1.1\r\n" + host + "\r\n"}
	case 9:
		return ask{"POST", "POST /digest HTTP/1.1\r\n" + host + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body}
	case 10:
		return ask{"POST", "POST /digest HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n" + chunks(r, body) + "0\r\n\r\n"}
	case 11:
		return ask{"POST", "POST /digest HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + chunks(r, body) + "0;last\r\nX-Sum: 5\r\n\r\n"}
	case 12:
		return ask{"POST", "POST /wait HTTP/1.1\r\n" + host + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body}
	}
	return ask{"POST", "POST /early HTTP/1.1\r\n" + host + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body}
}

func chunks(r *rand.Rand, body string) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(len(body), 1+r.IntN(3000))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String()
}

// last ends a script: its connection closes after the answer.
func randomLast(r *rand.Rand) ask {
	switch r.IntN(4) {
	case 0:
		return ask{"GET", "GET /prepared1 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"}
	case 1:
		return ask{"GET", "GET /now HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"}
	case 2:
		return ask{"GET", "GET /later HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"}
	}
	return ask{"GET", "GET /prepared2 HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"}
}

// answered is what of an answer must be the same.
type answered struct {
	status int
	length int64
	sum    [32]byte
}

// play sends a script in pieces of random sizes and reads all answers, then
// the end of the connection.
func play(t *testing.T, address string, script []ask, r *rand.Rand) (answers []answered) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var all strings.Builder
	for _, a := range script {
		all.WriteString(a.text)
	}
	pieces := all.String()
	sent := make(chan error, 1)
	go func() {
		for len(pieces) > 0 {
			n := min(len(pieces), 1+r.IntN(1+r.IntN(6000)))
			if _, err := io.WriteString(conn, pieces[:n]); err != nil {
				sent <- err
				return
			}
			pieces = pieces[n:]
		}
		sent <- nil
	}()
	in := bufio.NewReader(conn)
	for i, a := range script {
		resp, err := http.ReadResponse(in, &http.Request{Method: a.method})
		if err != nil {
			t.Fatalf("answer %d, to %.40q: %v", i, a.text, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("answer %d, to %.40q: %v", i, a.text, err)
		}
		resp.Body.Close()
		length := int64(len(body))
		if a.method == http.MethodHead {
			length = resp.ContentLength
		}
		answers = append(answers, answered{resp.StatusCode, length, sha256.Sum256(body)})
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
		t.Fatalf("after the last answer there is %q, %v", rest, err)
	}
	return answers
}

// Whatever of the front answers, and however the requests come: the answers
// are those of net/http, in order, and the socket comes back to the loop.
func TestLikeNetHTTP(t *testing.T) {
	oracle := httptest.NewServer(plain())
	defer oracle.Close()
	f := start(t, front.Options{}, plain(), mixed)
	var lent atomic.Int64
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range 60 {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		var script []ask
		for range 1 + r.IntN(20) {
			script = append(script, randomAsk(r))
		}
		script = append(script, randomLast(r))
		want := play(t, strings.TrimPrefix(oracle.URL, "http://"), script, rand.New(rand.NewPCG(seed, uint64(round))))
		got := play(t, f.address, script, rand.New(rand.NewPCG(seed, uint64(round))))
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("round %d: answer %d, to %.60q, is %d with %d bytes, by net/http %d with %d",
					round, i, script[i].text, got[i].status, got[i].length, want[i].status, want[i].length)
			}
		}
		lent.Add(int64(len(script)))
	}
	if loop.Sockets && f.count(t, "chappe_requests_total", "prepared") == 0 {
		t.Error("nothing was answered in place")
	}
	await(t, "the end of all connections", func() bool { return f.open() == 0 })
}

// A connection that net/http answered on is the loop's again.
func TestComesBack(t *testing.T) {
	f := start(t, front.Options{Loops: 1}, plain(), mixed)
	conn := f.dial(t)
	in := bufio.NewReader(conn)
	for i := range 20 {
		for _, path := range []string{"/nethttp", "/now"} {
			send(t, conn, "GET "+path+" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(i, path, err)
			}
			if b, _ := io.ReadAll(resp.Body); string(b) != "answer to "+path {
				t.Fatalf("GET %s was answered %q", path, b)
			}
		}
	}
	if got := f.count(t, "chappe_requests_total", `"loop"`); loop.Sockets && got != 20 {
		t.Errorf("the loop answered %v requests, want 20", got)
	}
}

// A client that waits for 100 Continue gets it, and one that is refused at
// once can tell.
func TestExpect(t *testing.T) {
	f := start(t, front.Options{}, plain(), mixed)
	for _, path := range []string{"/digest", "/wait"} {
		conn := f.dial(t)
		in := bufio.NewReader(conn)
		send(t, conn, "POST "+path+" HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
		line, err := in.ReadString('\n')
		if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("POST %s: %q, %v", path, line, err)
		}
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		send(t, conn, "abc")
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("POST %s: %v, %v", path, resp, err)
		}
		resp.Body.Close()
	}
	conn := f.dial(t)
	send(t, conn, "POST /limited HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 4000))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Fatalf("a body above the limit: %v, %v", resp, err)
	}
	resp.Body.Close()
}

// A body that the loop waits for may come in any pieces.
func TestPostInPieces(t *testing.T) {
	f := start(t, front.Options{Loops: 1}, plain(), mixed)
	conn := f.dial(t)
	in := bufio.NewReader(conn)
	body := strings.Repeat("b", 3000)
	head := "POST /wait HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3000\r\n\r\n"
	for _, cut := range []int{1, 1000, 2000, 2999} {
		send(t, conn, head+body[:cut])
		f.seen(t)
		send(t, conn, body[cut:])
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if b, _ := io.ReadAll(resp.Body); string(b) != "waited for "+body {
			t.Fatalf("cut at %d: answered %d bytes", cut, len(b))
		}
	}
}
