//go:build !linux || nethttp

package loop

// Sockets says whether this build has loops with sockets of their own. Without
// them all connections are pipes of net/http.
const Sockets = false

type poller struct{}

func (*poller) wake() {}

func (*Loop) read(*entry, []byte) (n int, more bool, err error) { return 0, false, nil }

func (*Loop) readBelow(*entry, []byte) (int, error) { return 0, errAgain{} }

func writeSocket(_ int, b []byte) (int, error) { return len(b), nil }

func closeSocket(int) {}

func shutSocket(int) {}

func (*Loop) watchOutput(Conn, *entry) {}

// Lent is a socket in the hands of goroutines; there is none here.
type Lent struct{}

func (*Lent) poke() {}

func (*Lent) finish() bool { return false }
