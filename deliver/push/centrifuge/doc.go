// Package centrifuge speaks the Centrifuge client protocol, in JSON, over the
// sessions of push, so that an unmodified centrifuge-js works.
//
// A channel is a topic or a pattern. An offset is a seq, an epoch the log's:
// what a client missed while it was away is in the reply to its subscribing,
// up to 1,000 events or 1 MiB; beyond that it is told that it did not recover.
// It is never left with a gap that it does not know of. Ephemeral topics have
// no offsets, and nothing of them is recovered.
//
// A client's commands are carried out one after another, in the order in which
// they came. So a client has at most one thing done at a time, and what waits
// is bounded: 256 commands a message, 256 KiB of messages. Its commands rest
// while the replies to others wait to be taken.
//
// Clients of http_stream and sse send their commands to /emulation, under a
// session that only the connect reply tells them.
//
// Left out are Protobuf, remote calls, messages without a channel, tokens of
// subscriptions, deltas and filters by tags.
package centrifuge
