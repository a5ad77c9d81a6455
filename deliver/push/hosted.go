package push

import (
	"net/http"

	"github.com/chappe/chappe/front"
)

// Stream is ServeStream on net/http.
func (h *Hub) Stream(w http.ResponseWriter, r *http.Request) { h.Host(h.ServeStream, w, r) }

// Poll is ServePoll on net/http.
func (h *Hub) Poll(w http.ResponseWriter, r *http.Request) { h.Host(h.ServePoll, w, r) }

// WebSocket is ServeWebSocket on net/http.
func (h *Hub) WebSocket(w http.ResponseWriter, r *http.Request) { h.Host(h.ServeWebSocket, w, r) }

// Host has a session of net/http on one of the loops, in turn.
func (h *Hub) Host(serve front.Waiting, w http.ResponseWriter, r *http.Request) {
	n := h.hosted.Add(1)
	front.Host(h.shards[int(n)%len(h.shards)].loop, serve, w, r)
}
