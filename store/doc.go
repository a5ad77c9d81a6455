// Package store keeps the whole state of the program in SQL: the log of
// events, the checkpoints of sources, tokens. The truth is one SQLite file in
// the data folder (WAL, synchronous=FULL: what was committed is on disk).
//
// [Open] gives a [DB], which several processes may hold at once: it can add
// tokens and take a backup beside a running server. [OpenLog] takes the
// folder's exclusive lock and gives the [Log], of which there is one.
//
// What it promises: events are numbered without a gap in commit order; a batch
// and its checkpoint are one transaction; (source, id) is stored once in seven
// days; a read that would have a hole is an *event.GoneError; purges are done
// in slices short enough to stand between two commits, and space goes back to
// the disk. What it leaves out: grouping commits, fan-out and memory of recent
// events (package bus).
//
// The SQL is the common part of SQLite and PostgreSQL; package storetest is
// the conformance test for both.
package store
