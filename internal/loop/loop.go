package loop

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chappe/chappe/internal/slab"
)

// Conn names a connection of one loop. It stays valid until the connection
// ends; calls with one that ended do nothing. The zero Conn names none.
type Conn uint64

func newConn(index, generation uint32) Conn { return Conn(generation)<<32 | Conn(index) }

func (c Conn) index() uint32      { return uint32(c) }
func (c Conn) generation() uint32 { return uint32(c >> 32) }

// Owner is told what happens to its connections, on the loop. Data is what it
// gave with each.
type Owner interface {
	// Input gives what came. B is valid, and may be changed, during the call.
	Input(c Conn, data uint32, b []byte)
	// Drained says that the socket has taken everything that was kept for it.
	Drained(c Conn, data uint32)
	// Timeout says that the time set by Wake has come.
	Timeout(c Conn, data uint32)
	// Closed is the last call about a connection that its owner did not close:
	// the peer has, or the socket failed, or took nothing for Options.Stuck.
	Closed(c Conn, data uint32, err error)
}

// OwnerID is an owner's number on its loop.
type OwnerID uint8

// Nobody owns connections that are only written to and ended.
const Nobody OwnerID = 0

// ErrStuck ends a connection that took nothing of what waits for it.
var ErrStuck = errors.New("the peer took nothing of what waits for it")

var errPanic = errors.New("its handling failed")

// Options of a loop. Zero fields take their defaults.
type Options struct {
	Stuck  time.Duration       // without progress of what is to be written; 30 s
	Late   func(time.Duration) // observes how late each turn was; may be nil
	Panics func(v any)         // is told of a panic in an owner; nil: it is not caught
}

const (
	readSize   = 64 << 10
	maxCork    = 16 << 10
	maxReads   = 4         // of one connection a turn; then it is another's
	maxLinger  = 256 << 10 // of what still comes on a connection that ended on our side
	lingerTime = 2 * time.Second
	endTime    = 2 * time.Minute // to take the last that is written, however it makes progress
)

// Loop runs connections and functions one after another.
type Loop struct {
	options Options
	poller  *poller // nil: there are no sockets, and it runs when there is something to do
	owners  []Owner
	entries slab.Slab[entry]
	extras  []*extra // by entry.extra
	spare   []uint32 // extras that are free
	wheel   wheel
	dirty   [2][]Conn // have output that was not tried to be written; and those of this turn
	again   [2][]Conn // may have input that was not read; and those of this turn
	failed  []failure
	pending map[uint32]Conn // have output that their sockets did not take, by extra
	swept   uint64          // tick at which pending was last looked through
	buffer  []byte          // input
	scratch []byte          // output
	corked  Conn            // whose output is held in cork until its owner is done
	cork    []byte
	count   atomic.Int64
	queued  atomic.Int64

	mu      sync.Mutex
	inbox   []func()
	taken   []func() // that turn runs; it is the next inbox
	running bool     // a goroutine is in turn; for a loop without a poller
	stopped bool     // Run is to end
	done    chan struct{}
	timer   *time.Timer
}

type failure struct {
	conn Conn
	err  error
}

// New makes a loop without sockets of its own: its connections are pipes. It
// needs no goroutine while there is nothing to do.
func New(o Options) *Loop { return newLoop(o, nil) }

func newLoop(o Options, p *poller) *Loop {
	if o.Stuck == 0 {
		o.Stuck = 30 * time.Second
	}
	l := &Loop{options: o, poller: p, done: make(chan struct{}), owners: []Owner{nobody{}}, extras: []*extra{nil}, pending: map[uint32]Conn{},
		buffer: make([]byte, readSize), scratch: make([]byte, 0, readSize)}
	l.wheel.start(time.Now())
	return l
}

// Register makes o an owner of connections. It is to be called before the loop
// runs, or on it.
func (l *Loop) Register(o Owner) OwnerID {
	l.owners = append(l.owners, o)
	return OwnerID(len(l.owners) - 1)
}

// Post has f run on the loop, soon, after what was posted before. On a loop
// whose Run has ended it never does.
func (l *Loop) Post(f func()) {
	l.mu.Lock()
	l.inbox = append(l.inbox, f)
	start := l.poller == nil && !l.running
	if start {
		l.running = true
	}
	l.mu.Unlock()
	switch {
	case start:
		go l.runPortable() // ends when there is nothing left to do
	case l.poller != nil:
		l.poller.wake()
	}
}

// Done is closed when Run has ended. A loop that is not run never ends.
func (l *Loop) Done() <-chan struct{} { return l.done }

// Len is how many connections there are, and Queued how many bytes wait for
// sockets to take them. Any goroutine may ask.
func (l *Loop) Len() int { return int(l.count.Load()) }

// Queued is described at Len.
func (l *Loop) Queued() int { return int(l.queued.Load()) }

// runPortable runs turns until there is nothing to do before a deadline.
func (l *Loop) runPortable() {
	for {
		l.advance()
		l.turn()
		l.mu.Lock()
		if len(l.inbox) == 0 && len(l.dirty[0]) == 0 && len(l.failed) == 0 {
			l.running = false
			l.arm()
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
	}
}

// arm wakes a loop without a poller for its next deadline. It holds mu.
func (l *Loop) arm() {
	if l.timer != nil {
		l.timer.Stop()
	}
	if wait, ok := l.wait(); ok {
		l.timer = time.AfterFunc(wait, func() { l.Post(func() {}) })
	}
}

// wait is how long the loop may sleep for all that it knows; ok is false if
// there is no deadline at all.
func (l *Loop) wait() (d time.Duration, ok bool) {
	if len(l.again[0]) > 0 || len(l.dirty[0]) > 0 || len(l.failed) > 0 {
		return 0, true
	}
	d, ok = l.wheel.wait(time.Now())
	if len(l.pending) > 0 { // each second they are looked through
		return min(time.Second, orElse(d, ok)), true
	}
	return d, ok
}

func orElse(d time.Duration, ok bool) time.Duration {
	if !ok {
		return time.Second
	}
	return d
}

// advance sets the clock; it comes before anything else of a turn.
func (l *Loop) advance() {
	late := l.wheel.advance(time.Now())
	if l.options.Late != nil {
		l.options.Late(late)
	}
}

// turn does all there is to do, once.
func (l *Loop) turn() {
	l.runInbox()
	l.readAgain()
	l.wheel.expire(&l.entries, l.timeout)
	l.sweep()
	l.flushDirty()
	l.closeFailed()
}

func (l *Loop) runInbox() {
	l.mu.Lock()
	l.inbox, l.taken = l.taken[:0], l.inbox
	l.mu.Unlock()
	for _, f := range l.taken {
		l.guard(0, f)
	}
	clear(l.taken)
}

// guard runs what an owner does for a connection, or for none: one bad
// connection never ends the process.
func (l *Loop) guard(c Conn, f func()) {
	if l.options.Panics != nil {
		defer func() {
			if v := recover(); v != nil {
				l.options.Panics(v)
				l.corked, l.cork = 0, l.cork[:0]
				l.fail(c, errPanic)
			}
		}()
	}
	f()
	l.uncork()
}

func (l *Loop) timeout(index uint32, e *entry) {
	c := newConn(index, e.generation)
	if e.flags&broken != 0 {
		return
	}
	if e.owner == Nobody {
		l.release(c, e) // it has lingered long enough
		return
	}
	l.guard(c, func() { l.owners[e.owner].Timeout(c, e.data) })
}

// readAgain goes on with connections that had more than their turn's share.
func (l *Loop) readAgain() {
	l.again[0], l.again[1] = l.again[1][:0], l.again[0]
	for _, c := range l.again[1] {
		if e := l.entry(c); e != nil {
			l.input(c, e)
		}
	}
}

// sweep ends, each second, what made no progress for too long.
func (l *Loop) sweep() {
	const second = uint64(time.Second / tick)
	if len(l.pending) == 0 || l.wheel.now-l.swept < second {
		return
	}
	l.swept = l.wheel.now
	for i, c := range l.pending {
		if x := l.extras[i]; time.Duration(l.wheel.now-x.moved)*tick >= l.options.Stuck {
			l.fail(c, ErrStuck)
		}
	}
}

func (l *Loop) flushDirty() {
	l.dirty[0], l.dirty[1] = l.dirty[1][:0], l.dirty[0]
	for _, c := range l.dirty[1] {
		if e := l.entry(c); e != nil {
			l.flush(c, e)
		}
	}
}

// closeFailed tells the owners of connections that broke while they wrote.
func (l *Loop) closeFailed() {
	failed := l.failed
	l.failed = nil
	for _, f := range failed {
		l.drop(f.conn, f.err)
	}
}

// fail ends a connection at the end of the turn: its owner may be in the
// middle of something.
func (l *Loop) fail(c Conn, err error) {
	if e := l.entry(c); e != nil && e.flags&broken == 0 {
		e.flags |= broken
		l.failed = append(l.failed, failure{c, err})
	}
}

// drop ends a connection and tells its owner.
func (l *Loop) drop(c Conn, err error) {
	e := l.find(c)
	if e == nil {
		return
	}
	owner, data := l.owners[e.owner], e.data
	l.release(c, e)
	l.guard(0, func() { owner.Closed(c, data, err) })
}

// nobody drops what still comes on connections that ended on our side, until
// the peer has seen the end too.
type nobody struct{}

func (nobody) Input(Conn, uint32, []byte) {}
func (nobody) Drained(Conn, uint32)       {}
func (nobody) Timeout(Conn, uint32)       {}
func (nobody) Closed(Conn, uint32, error) {}
