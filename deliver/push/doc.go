// Package push hands events to connected subscribers at once, over SSE,
// long-poll or a plain WebSocket, all on the log's one cursor.
//
// A session is either catching up (it pulls pages from the log each time its
// connection takes more) or live (the hub puts events into its bounded queue).
// A full queue drops it back to catching up. Passing from one to the other has
// neither gap nor duplicate: under the hub's lock, a session goes live only if
// nothing past its position has been handed out, and skips what is not past it.
//
// A session is cut, its cursor known to the client, after 30 s in which its
// connection took nothing; at once when events of an ephemeral topic overflow
// its queue, since those cannot be caught up with; and when its token expires.
//
// Sessions know nothing of connections: a transport is told that there is
// something to take and takes it when it can write. Today each is served by a
// goroutine of net/http.
package push
