// Package push hands events to connected subscribers at once, over SSE,
// long-poll or a plain WebSocket, all on the log's one cursor.
//
// Each loop of the front has a shard: the sessions on its connections and who
// of them follows what. The bus hands a group of events to every shard, which
// writes them to its sessions; nothing is shared between shards but the counts
// that limits need. A session on net/http belongs to a shard, too, by a pipe.
//
// What a session follows with one cursor is a reader. It is either catching up
// (it pulls pages from the log each time its connection has taken the last) or
// live (events are written as they are handed out; what the socket does not
// take waits in a bounded queue). A full queue drops it back to catching up.
// Passing from one to the other has neither gap nor duplicate: a reader goes
// live only if nothing past its position has been handed to its shard, and
// skips what is not past it.
//
// A session is cut, its cursor known to the client, after 30 s in which its
// connection took nothing; at once when events of an ephemeral topic overflow
// its queue, since those cannot be caught up with; and when its token expires.
//
// DESIGN.md says what an idle session costs and why.
package push
