package main

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// upstream is what the servers ask, within the driver. It says nothing of how
// long an answer may be kept.
type upstream struct {
	address  string
	requests atomic.Int64
	server   *http.Server
}

// serveUpstream answers until close is called.
func serveUpstream(answer http.HandlerFunc) (*upstream, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{address: listener.Addr().String()}
	u.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.requests.Add(1)
		answer(w, r)
	})}
	go func() { _ = u.server.Serve(listener) }() // ends with close
	return u, nil
}

func (u *upstream) close() { _ = u.server.Close() } // its connections are of no more use

// document answers with the target that was asked for and a generation, which
// is the ETag, too. About 100 bytes.
func document(w http.ResponseWriter, r *http.Request, generation int64) {
	body := documentStart(r.URL.RequestURI()) + fmt.Sprintf(`,"generation":%d,"text":"%s"}`, generation, "the count of comments on a page of a blog")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("ETag", etag(generation))
	_, _ = w.Write([]byte(body)) // a server that has gone
}

// documentStart is how the document of a target begins, by which it is known.
func documentStart(target string) string { return `{"target":"` + target + `"` }

func etag(generation int64) string { return fmt.Sprintf(`"g%d"`, generation) }
