package main

import (
	"net"
	"net/http"

	"github.com/lxzan/gws"
)

// gwsPeer is github.com/lxzan/gws with its broadcaster.
type gwsPeer struct {
	gws.BuiltinEventHandler
	hub[*gws.Conn]
}

func newGWS() *gwsPeer { return &gwsPeer{} }

func (p *gwsPeer) serve(l net.Listener) error {
	upgrader := gws.NewUpgrader(p, &gws.ServerOption{ReadBufferSize: 512, WriteBufferSize: 512})
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r)
		if err != nil {
			return // it has answered
		}
		topic := r.FormValue("topic")
		conn.Session().Store("topic", topic)
		p.join(topic, conn)
		go conn.ReadLoop() // until the client is gone
	}))
}

// OnClose takes a connection out.
func (p *gwsPeer) OnClose(conn *gws.Conn, _ error) {
	if topic, known := conn.Session().Load("topic"); known {
		p.leave(topic.(string), conn)
	}
}

func (p *gwsPeer) publish(topic string, payload []byte) {
	b := gws.NewBroadcaster(gws.OpcodeText, payload)
	defer b.Close()
	p.each(topic, func(c *gws.Conn) {
		_ = b.Broadcast(c) // a failed one ends its ReadLoop
	})
}
