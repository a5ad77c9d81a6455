package main

import (
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// gorilla is the naive way of "A million WebSockets and Go": a reader and a
// writer goroutine for each connection, a channel between, default buffers.
type gorilla struct{ hub[*gorillaChannel] }

type gorillaChannel struct {
	conn *websocket.Conn
	send chan []byte // bounded; who publishes waits for the slowest
	gone chan struct{}
}

func newGorilla() *gorilla { return &gorilla{} }

func (g *gorilla) serve(l net.Listener) error {
	upgrader := websocket.Upgrader{}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // it has answered
		}
		c := &gorillaChannel{conn, make(chan []byte, 16), make(chan struct{})}
		g.join(r.FormValue("topic"), c)
		go g.read(r.FormValue("topic"), c) // until the client is gone
		go c.write()                       // until read ends
	}))
}

func (g *gorilla) read(topic string, c *gorillaChannel) {
	for {
		if _, _, err := c.conn.ReadMessage(); err != nil {
			close(c.gone)
			g.leave(topic, c)
			_ = c.conn.Close() // it failed before
			return
		}
	}
}

func (c *gorillaChannel) write() {
	for {
		select {
		case payload := <-c.send:
			if c.conn.WriteMessage(websocket.TextMessage, payload) != nil {
				_ = c.conn.Close() // ends read, which ends us
			}
		case <-c.gone:
			return
		}
	}
}

func (g *gorilla) publish(topic string, payload []byte) {
	g.each(topic, func(c *gorillaChannel) {
		select {
		case c.send <- payload:
		case <-c.gone:
		}
	})
}

// gorillaTuned has one goroutine for each connection, small buffers that are
// shared when idle, and frames that are made once.
type gorillaTuned struct{ hub[*websocket.Conn] }

func newGorillaTuned() *gorillaTuned { return &gorillaTuned{} }

func (g *gorillaTuned) serve(l net.Listener) error {
	upgrader := websocket.Upgrader{ReadBufferSize: 256, WriteBufferSize: 256, WriteBufferPool: &sync.Pool{}}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // it has answered
		}
		topic := r.FormValue("topic")
		g.join(topic, conn)
		go func() { // until the client is gone; net/http's own goroutine ends
			for {
				if _, _, err := conn.NextReader(); err != nil {
					g.leave(topic, conn)
					_ = conn.Close() // it failed before
					return
				}
			}
		}()
	}))
}

// publish is called by one goroutine at a time, which is what writes.
func (g *gorillaTuned) publish(topic string, payload []byte) {
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, payload)
	if err != nil {
		return
	}
	g.each(topic, func(c *websocket.Conn) {
		if c.WritePreparedMessage(message) != nil {
			_ = c.Close() // ends its reader, which takes it out
		}
	})
}
