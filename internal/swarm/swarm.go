// Package swarm is a great many subscribers in one process, to load a server
// with: WebSocket or SSE connections from many source addresses, opened at a
// bounded pace, which receive, count and time what they are sent, and come
// back by rules when they are cut.
//
// A connection is a raw descriptor and an entry of some 140 bytes in its
// loop's slab; it has no goroutine, and a buffer only while a frame is cut in
// two. Each loop is one goroutine around one epoll and owns its connections:
// whatever is asked of them is done by the loop, between two waits.
//
// Messages are counted whatever they are. One that carries what Payload makes
// is timed, and its number compared with the one before: a hole is missed, one
// that is not higher is doubled. Latency is true where the publisher has this
// machine's clock.
//
// It leaves out TLS, compression, long-poll and what a server must not send.
// It needs Linux; elsewhere Dial says so.
//
// [Get] is the other load: requests that are answered at once, on connections
// that are kept. [Local] holds both to this machine.
package swarm

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Transport is what a connection asks for.
type Transport uint8

// Transports.
const (
	WebSocket Transport = iota
	SSE
)

// Policy is what a connection does when it ended.
type Policy uint8

// Policies.
const (
	Stay   Policy = iota // nothing
	Naive                // connects anew after Delay and up to Jitter more
	Chappe               // as chappe.js does, on its one transport, and resumes
)

// Request is how a connection introduces itself.
type Request struct {
	Path   string // with its query
	Header string // lines, each with its \r\n
}

// Options of a swarm.
type Options struct {
	Target netip.AddrPort
	Count  int
	// Request says what connection i sends. The loops call it at each attempt;
	// it may not ask anything of the swarm.
	Request   func(i int) Request
	Transport Transport
	// Rate is how many connections are opened a second; 0 has no bound.
	Rate float64
	// InFlight is how many may be on their way at once at first; 256 when 0.
	// Those that come back are bounded by the policy alone.
	InFlight int
	// Loops is how many goroutines share the connections; 1 when 0.
	Loops int
	// Sources are IPv4 addresses to connect from, like 127.0.0.0/16, the
	// second one first; the system's choice when not given.
	Sources netip.Prefix
	// PerSource is how many connections share a source address; 1,000 when 0.
	PerSource int
	// Greeted says that the server is a Chappe: a connection is live with its
	// hello, not with the answer to its request. The policy Chappe implies it.
	Greeted bool
	Policy  Policy
	// Delay and Jitter are of the policy Naive.
	Delay, Jitter time.Duration
	// AttemptTime is how long an attempt may take until it is live; 6s when 0.
	AttemptTime time.Duration
	// MessageBytes is how long a message may be; 64 KiB when 0.
	MessageBytes int
}

// maxReasons bounds the reasons that are counted apart; the rest are "other".
const maxReasons = 64

func (o *Options) fill() {
	setDefault(&o.InFlight, 256)
	setDefault(&o.Loops, 1)
	setDefault(&o.PerSource, 1000)
	setDefault(&o.AttemptTime, 6*time.Second) // chappe.js: helloTime
	setDefault(&o.MessageBytes, 64<<10)
	o.Greeted = o.Greeted || o.Policy == Chappe
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

func (o *Options) check() error {
	switch {
	case !o.Target.IsValid():
		return errors.New("the target is not an address and port, like 127.0.0.1:8080")
	case o.Count < 1 || o.Loops < 1 || o.InFlight < 1 || o.PerSource < 1 || o.MessageBytes < 1:
		return errors.New("a count is below 1")
	case o.Request == nil:
		return errors.New("there is no request to send")
	case !o.Sources.IsValid():
		return nil
	case !o.Sources.Addr().Is4() || !o.Target.Addr().Unmap().Is4():
		return errors.New("source addresses are for IPv4 only")
	}
	room := 1<<(32-o.Sources.Bits()) - 2
	if need := (o.Count + o.PerSource - 1) / o.PerSource; need > room {
		return fmt.Errorf("%d connections, %d from an address, need %d addresses and %v has %d", o.Count, o.PerSource, need, o.Sources, room)
	}
	return nil
}

// Counts are of all connections. Those in the second block count from the
// last Mark.
type Counts struct {
	Connecting int // on their way, an attempt being made
	Live       int
	Waiting    int // to come back
	Connected  int // live at least once since Dial
	Failed     int // given up before they were ever live

	Received uint64 // messages, controls not counted
	Missed   uint64 // numbers that are holes
	Doubled  uint64 // numbers that came again
	Resets   uint64 // cursors that the server had no longer
	Pings    uint64
	Attempts uint64
	Ended    uint64 // live connections that ended, whoever did it
}

func (c *Counts) add(o Counts) {
	c.Connecting += o.Connecting
	c.Live += o.Live
	c.Waiting += o.Waiting
	c.Connected += o.Connected
	c.Failed += o.Failed
	c.Received += o.Received
	c.Missed += o.Missed
	c.Doubled += o.Doubled
	c.Resets += o.Resets
	c.Pings += o.Pings
	c.Attempts += o.Attempts
	c.Ended += o.Ended
}

// Stats are the counts and what takes longer to tell.
type Stats struct {
	Counts
	ConnectTime   time.Duration  // from Dial until the last one was first live
	Latency       Histogram      // since Mark, of messages that carry their time
	Back          Histogram      // when connections went live, from Mark on
	EndsPerSecond int            // most live connections that ended within one second, since Mark
	Reasons       map[string]int // why attempts and connections ended, since Mark
	CPU           time.Duration  // of this process, since it started
}

// Client is one connection as its user would see it.
type Client struct {
	Live                      bool
	Attempts                  int           // since Mark
	Back                      time.Duration // from Mark until it was last made live; below 0: it was not
	Received, Missed, Doubled int           // since Mark
	Last                      uint64        // the highest number it ever received
}
