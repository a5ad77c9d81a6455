// Package front is the listener: one port, and connections that cost almost
// nothing while they wait.
//
// It reads the head of each request and decides. A request whose connection
// waits (an [Exchange]: WebSocket, SSE, long-poll) is handled on the loop, and
// its connection stays there. A GET that has a prepared [Answer] is answered
// in place, with keep-alive and pipelining. Anything else is handed, with the
// bytes read, to net/http, as a connection that ends with that request; then
// the socket comes back, so one slow request does not cost it the fast path.
//
// Two parsers see what clients send, this one and Go's. What ours doubts is
// refused with 400 (package internal/head).
//
// Where there is no loop with sockets (any system but Linux) everything goes
// to net/http, and an Exchange is served by [Host].
package front
