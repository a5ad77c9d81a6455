// Package event holds what the whole program speaks of: the [Event], the
// [Topic] it belongs to, the [Pattern] that selects topics, the [Cursor] that
// is its place in the log, and the few contracts between those who publish
// and those who read.
//
// The idea: one ordered log with one cursor. Whoever publishes hands over a
// [Batch] and gets [Receipt] values back when it is on disk. Whoever reads
// asks for a [Page] after a cursor, on whatever transport that cursor was
// received. A [Record] is an event as the log gives it back: immutable,
// shared by all readers, already encoded for the wire.
//
// The package promises nothing about storage or delivery (packages bus, store
// and deliver do) and imports none of them.
package event
