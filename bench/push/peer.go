package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"
)

// peer is the WebSocket side of a server that does what ours does: connections
// by topic, and a text message to all of a topic.
type peer interface {
	// serve answers GET /v1/ws?topic=... on each connection of the listener.
	serve(net.Listener) error
	// publish sends a message to all connections of a topic, and returns when
	// it is sent or queued for each.
	publish(topic string, payload []byte)
}

// peers are the servers beside ours, by name.
var peers = map[string]func() peer{
	"gorilla":       func() peer { return newGorilla() },
	"gorilla-tls":   func() peer { return overTLS{newGorilla()} },
	"gorilla-tuned": func() peer { return newGorillaTuned() },
	"coder":         func() peer { return newCoder() },
	"gws":           func() peer { return newGWS() },
	"gobwas-epoll":  func() peer { return newGobwas() },
	"raw":           func() peer { return newRaw() },
	"net/http":      func() peer { return plainHTTP{} },
}

// servePeer runs a peer until the process is killed. Whoever measures it has a
// listener of its own.
func servePeer(name string) error {
	newPeer, known := peers[name]
	if !known {
		return fmt.Errorf("there is no peer %s", name)
	}
	p := newPeer()
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish", func(_ http.ResponseWriter, r *http.Request) {
		payload, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err == nil {
			p.publish(r.FormValue("topic"), payload)
		}
	})
	mux.HandleFunc("GET /goroutines", func(w http.ResponseWriter, _ *http.Request) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_ = json.NewEncoder(w).Encode(runtimeFigures{runtime.NumGoroutine(), m.Mallocs}) // the driver sees it
	})
	failed := make(chan error, 2)
	go func() { failed <- http.Serve(admin, mux) }() // both until the process ends
	go func() { failed <- p.serve(public) }()
	fmt.Fprintf(os.Stderr, "admin on http://%s\nlistening on http://%s\n", admin.Addr(), public.Addr())
	return <-failed
}

type runtimeFigures struct {
	Goroutines int
	Mallocs    uint64
}

// hub keeps connections by topic.
type hub[C comparable] struct {
	mu     sync.RWMutex
	topics map[string]map[C]struct{}
}

func (h *hub[C]) join(topic string, c C) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.topics == nil {
		h.topics = map[string]map[C]struct{}{}
	}
	if h.topics[topic] == nil {
		h.topics[topic] = map[C]struct{}{}
	}
	h.topics[topic][c] = struct{}{}
}

func (h *hub[C]) leave(topic string, c C) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.topics[topic], c)
}

// each calls f for the connections of a topic.
func (h *hub[C]) each(topic string, f func(C)) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for c := range h.topics[topic] {
		f(c)
	}
}

// overTLS serves a peer with a certificate made at the start.
type overTLS struct{ peer }

func (o overTLS) serve(l net.Listener) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	return o.peer.serve(tls.NewListener(l, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}},
		NextProtos:   []string{"http/1.1"},
	}))
}

// plainHTTP answers what the gateway part asks for, by net/http alone.
type plainHTTP struct{}

func (plainHTTP) publish(string, []byte) {}

func (plainHTTP) serve(l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "ok\n") // the client may have gone
	})
	mux.HandleFunc("POST /v1/tickets", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"status":401,"title":"Unauthorized","code":"token-missing"}`)
	})
	return http.Serve(l, mux)
}
