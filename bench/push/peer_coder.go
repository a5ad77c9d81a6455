package main

import (
	"context"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

// coder is github.com/coder/websocket as its manual has a server that only
// writes: the handler stays, and CloseRead reads.
type coder struct{ hub[*websocket.Conn] }

func newCoder() *coder { return &coder{} }

func (p *coder) serve(l net.Listener) error {
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // it has answered
		}
		topic := r.FormValue("topic")
		gone := conn.CloseRead(context.WithoutCancel(r.Context()))
		p.join(topic, conn)
		<-gone.Done()
		p.leave(topic, conn)
		_ = conn.CloseNow() // it failed before
	}))
}

func (p *coder) publish(topic string, payload []byte) {
	p.each(topic, func(c *websocket.Conn) {
		_ = c.Write(context.Background(), websocket.MessageText, payload) // a failed one ends CloseRead
	})
}
