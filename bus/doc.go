// Package bus is the one way into the log and the one way along it.
//
// Publishers wait in a bounded queue; one goroutine, the committer, takes all
// that waits (up to 1,000 events or 8 MiB), has it written in one transaction,
// answers every publisher and hands the events to the followers, in order. So
// a publish that returned is on disk, and throughput grows with load. Between
// two commits the committer does a slice of the log's upkeep.
//
// Readers are served from a tail of recent events in memory, or from the log.
// Events on ephemeral topics are handed to the followers at once; they are in
// neither.
//
// Promised: followers and readers see the durable events in cursor order, each
// once; what Read returns was committed; a batch is stored whole or not at
// all. When the followers are slower than the publishers, the publishers wait.
package bus
