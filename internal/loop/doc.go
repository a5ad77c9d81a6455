// Package loop runs connections that mostly wait: as many as the machine has
// descriptors for, with no goroutine, no timer and no buffer for one that is
// idle.
//
// A [Loop] is one goroutine. Its connections, and whatever [Loop.Post] brings,
// run one after another on it, so what they share needs no lock. Each
// connection has an [Owner], a number that the owner gave it, at most one
// deadline on a timing wheel, and output that is kept only while its socket
// does not take it. Nothing that blocks may run on a loop: that is what [Pool]
// and [Loop.Lend] are for.
//
// On Linux a loop has sockets of its own ([NewPoller]), by epoll. A loop
// without sockets ([New]) has pipes, which net/http reads and writes; whoever
// owns connections cannot tell the difference. DESIGN.md says why it is as it is.
package loop
