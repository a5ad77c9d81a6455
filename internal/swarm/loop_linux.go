package swarm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what a loop keeps for its statistics.
const (
	endSlot  = 50 * time.Millisecond
	endSlots = 12_000 // ten minutes
)

// How long a loop waits when nothing comes.
const (
	pacePause = 2 * time.Millisecond // while connections are still to be opened at a rate
	duePause  = 10 * time.Millisecond
	idlePause = 500 * time.Millisecond
)

const maxEvents = 1024

// loop is one goroutine with an epoll and the connections k, k+Loops,
// k+2*Loops, ... All but the last block is its goroutine's own.
type loop struct {
	options *Options
	k       int
	began   time.Time
	epoll   int
	wakeup  int // an eventfd

	conns     []conn
	fragments map[int32][]byte // of messages that have begun
	buffer    []byte
	out       []byte
	random    *rand.Rand
	now       int64 // ns since began
	unborn    int   // the first connection that was not tried yet
	underWay  int   // first attempts
	scanned   int64
	closing   bool

	marked        int64
	lastConnected int64
	counts        Counts
	latency, back Histogram
	ends          []uint32
	reasons       map[string]int

	mu      sync.Mutex
	todo    []func()
	stopped bool // by then todo is done, and whoever has mu may look
}

func newLoop(o *Options, k int, began time.Time) (*loop, error) {
	l := &loop{
		options: o, k: k, began: began, epoll: -1, wakeup: -1,
		conns:     make([]conn, (o.Count-k+o.Loops-1)/o.Loops),
		fragments: map[int32][]byte{},
		buffer:    make([]byte, o.MessageBytes+maxHead+64<<10),
		random:    rand.New(rand.NewPCG(rand.Uint64(), uint64(k))),
		ends:      make([]uint32, endSlots),
		reasons:   map[string]int{},
	}
	for j := range l.conns {
		l.conns[j] = conn{fd: -1, back: -1}
	}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if l.wakeup, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		l.release()
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.wakeup, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}); err != nil {
		l.release()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return l, nil
}

func (l *loop) release() {
	_ = unix.Close(l.epoll)
	_ = unix.Close(l.wakeup)
}

// global is the number of the loop's connection j among all.
func (l *loop) global(j int) int { return j*l.options.Loops + l.k }

// do has the loop call f, and returns when it did.
func (l *loop) do(f func()) {
	l.mu.Lock()
	if l.stopped {
		defer l.mu.Unlock()
		f()
		return
	}
	done := make(chan struct{})
	l.todo = append(l.todo, func() { f(); close(done) })
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, _ = unix.Write(l.wakeup, one) // it is full only if the loop is to wake already
	l.mu.Unlock()
	<-done
}

func (l *loop) asked() {
	l.mu.Lock()
	todo := l.todo
	l.todo = nil
	l.mu.Unlock()
	for _, f := range todo {
		f()
	}
}

func (l *loop) run() {
	events := make([]unix.EpollEvent, maxEvents)
	for !l.closing {
		n, err := unix.EpollWait(l.epoll, events, int(l.pause().Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			l.reason("epoll: " + err.Error()) // a broken descriptor: nothing goes on
			break
		}
		l.now = time.Since(l.began).Nanoseconds()
		for _, e := range events[:max(n, 0)] {
			if e.Fd < 0 {
				_, _ = unix.Read(l.wakeup, l.buffer[:8]) // it only wakes
				continue
			}
			l.ready(int(e.Fd), e.Events)
		}
		l.asked()
		l.scan()
		l.open()
	}
	l.end()
}

// end closes everything and does what was asked meanwhile.
func (l *loop) end() {
	for j := range l.conns {
		if c := &l.conns[j]; c.fd >= 0 {
			l.drop(c)
			c.state = ended
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.release()
	for _, f := range l.todo {
		f()
	}
}

func (l *loop) pause() time.Duration {
	switch {
	case l.unborn < len(l.conns) && l.underWay < l.share():
		return pacePause
	case l.counts.Waiting > 0 || l.counts.Connecting > 0:
		return duePause
	}
	return idlePause
}

// share is how many first attempts of this loop may be under way.
func (l *loop) share() int { return max(1, l.options.InFlight/l.options.Loops) }

// open begins the first attempts that pace and bound allow.
func (l *loop) open() {
	until := len(l.conns)
	if rate := l.options.Rate; rate > 0 {
		until = min(until, 1+int(rate/float64(l.options.Loops)*time.Duration(l.now).Seconds()))
	}
	for ; l.unborn < until && l.underWay < l.share(); l.unborn++ {
		l.underWay++
		l.attempt(l.unborn)
	}
}

// scan looks for what is due. There are few enough connections to look at all.
func (l *loop) scan() {
	every := idlePause
	if l.counts.Waiting > 0 || l.counts.Connecting > 0 {
		every = duePause
	}
	if l.now-l.scanned < int64(every) {
		return
	}
	l.scanned = l.now
	for j := range l.conns {
		c := &l.conns[j]
		if c.due == 0 || c.due > l.now {
			continue
		}
		switch c.state {
		case waiting:
			l.attempt(j)
		case dialing, asking, answered:
			l.finish(j, lost, "no answer in time")
		case live:
			l.finish(j, silent, "silent for too long")
		}
	}
}

func (l *loop) mark() {
	l.marked = time.Since(l.began).Nanoseconds()
	l.latency, l.back = Histogram{}, Histogram{}
	clear(l.ends)
	clear(l.reasons)
	c := &l.counts
	*c = Counts{Connecting: c.Connecting, Live: c.Live, Waiting: c.Waiting, Connected: c.Connected, Failed: c.Failed}
	for j := range l.conns {
		c := &l.conns[j]
		c.attempts, c.received, c.missed, c.doubled, c.back = 0, 0, 0, 0, -1
	}
}

func (l *loop) reason(text string) {
	if _, known := l.reasons[text]; !known && len(l.reasons) >= maxReasons {
		text = "other"
	}
	l.reasons[text]++
}
