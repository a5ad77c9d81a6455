package swarm

import "time"

// conn is one connection. There may be a million of them on a machine.
type conn struct {
	partial []byte // what is not whole yet: an answer's head, a frame, a stream's message
	cursor  []byte // where to go on, by the policy Chappe
	due     int64  // ns since the loop began: of the next attempt, or when it is silent for too long
	back    int64  // ns since Mark, when it was last made live; below 0: not since
	last    uint64 // highest number received

	fd                        int32
	received, missed, doubled uint32
	attempt                   uint32 // of its life, for the key
	attempts                  uint32 // since Mark
	chunk                     uint32 // bytes left of it
	silence                   uint32 // ms that a live one may be silent; 0 is for ever
	retryMin, retryMax        uint32 // ms, as hello said
	told                      uint32 // ms, when the server said to come back
	streamRetry               uint32 // ms, of an SSE retry line

	state      state
	chunkState uint8
	tries      uint8 // in a row, without hello
	flags      flags
}

type state uint8

const (
	unborn state = iota
	dialing
	asking   // its request is sent
	answered // but not greeted yet
	live
	waiting // for its next attempt
	ended
)

type flags uint8

const (
	met         flags = 1 << iota // was greeted once
	connected                     // was live once
	expired                       // the server said that its token is
	isFramed                      // the end of its stream is told within it
	isFragments                   // a message has begun and not ended
)

func (c *conn) is(f flags) bool { return c.flags&f != 0 }

// Why a connection or an attempt ended, as chappe.js has it.
type why uint8

const (
	lost    why = iota // without a word, or it did not come about
	silent             // nothing was heard for too long
	refused            // for good
)

// Times of chappe.js.
const (
	defaultRetryMin = 1000  // ms
	defaultRetryMax = 10000 // ms
	maxBackoff      = time.Minute
	maxTold         = time.Hour
)

// delay is how long to wait before the next attempt; below 0: for ever.
// random gives a share, from 0 to 1. It follows delay of client/chappe.js.
func (o *Options) delay(c *conn, w why, random func() float64) time.Duration {
	upTo := func(d time.Duration) time.Duration { return time.Duration(random() * float64(d)) }
	if o.Policy == Stay || w == refused {
		return -1
	}
	if o.Policy == Naive {
		return o.Delay + upTo(o.Jitter)
	}
	began := c.state == live
	tries := c.tries
	if began {
		tries = 0
	} else {
		c.tries = min(c.tries+1, 30)
	}
	low, high := milliseconds(defaultRetryMin), milliseconds(defaultRetryMax)
	if c.is(met) {
		low, high = milliseconds(c.retryMin), milliseconds(c.retryMax)
	}
	switch {
	case c.is(expired):
		return upTo(time.Second)
	case c.told > 0:
		return max(time.Second, min(maxTold, milliseconds(c.told)))
	case began && w == silent:
		return 0
	case began:
		return low + upTo(high-low)
	}
	if !c.is(met) {
		high = time.Second
	}
	return upTo(min(maxBackoff, high<<min(tries, 16)))
}

func milliseconds(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }

// number compares a message's number with the one before.
func (c *conn) number(n uint64) (holes uint64, again bool) {
	switch {
	case c.last == 0 || n == c.last+1:
	case n <= c.last:
		c.doubled++
		return 0, true
	default:
		holes = n - c.last - 1
		c.missed += uint32(holes)
	}
	c.last = n
	return holes, false
}
