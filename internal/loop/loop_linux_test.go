//go:build !nethttp

package loop_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/chappe/chappe/internal/loop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// owner tells a test what it is told.
type owner struct {
	loop   *loop.Loop
	events chan string
	input  func(c loop.Conn, b []byte)
}

// Input implements loop.Owner.
func (o *owner) Input(c loop.Conn, _ uint32, b []byte) {
	if o.input != nil {
		o.input(c, b)
	}
	o.events <- "input " + string(b)
}

// Drained implements loop.Owner.
func (o *owner) Drained(loop.Conn, uint32) { o.events <- "drained" }

// Timeout implements loop.Owner.
func (o *owner) Timeout(loop.Conn, uint32) { o.events <- "timeout" }

// Closed implements loop.Owner.
func (o *owner) Closed(_ loop.Conn, _ uint32, err error) { o.events <- "closed " + err.Error() }

func (o *owner) expect(t *testing.T, want string) string {
	t.Helper()
	select {
	case got := <-o.events:
		if !strings.HasPrefix(got, want) {
			t.Fatalf("the owner is told %.60q, want %q", got, want)
		}
		return got
	case <-time.After(patience):
		t.Fatalf("the owner is not told %q", want)
	}
	return ""
}

// none waits for the loop to be done with what it has, and checks that it told nothing.
func (o *owner) none(t *testing.T) {
	t.Helper()
	for range 3 {
		o.do(func() {})
	}
	select {
	case got := <-o.events:
		t.Fatalf("the owner is told %.60q, want nothing", got)
	default:
	}
}

// do runs f on the loop.
func (o *owner) do(f func()) {
	done := make(chan struct{})
	o.loop.Post(func() { f(); close(done) })
	<-done
}

func run(t *testing.T, options loop.Options) (*owner, loop.OwnerID) {
	t.Helper()
	l, err := loop.NewPoller(options)
	if err != nil {
		t.Fatal(err)
	}
	o := &owner{loop: l, events: make(chan string, 10_000)}
	id := l.Register(o)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return o, id
}

// pair is a connection of the loop, and its peer, with small buffers.
func (o *owner) pair(t *testing.T, id loop.OwnerID) (loop.Conn, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
	f := os.NewFile(uintptr(fds[1]), "peer")
	peer, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	_ = peer.SetDeadline(time.Now().Add(patience))
	var c loop.Conn
	o.do(func() {
		c = o.loop.Add(fds[0], id, 7)
		err = o.loop.Start(c)
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, peer.(*net.UnixConn)
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

// However it is written, what the peer reads is in the order of the calls,
// whole, though its socket takes little at a time.
func TestWriteOrder(t *testing.T) {
	o, id := run(t, loop.Options{})
	c, peer := o.pair(t, id)
	var want bytes.Buffer
	piece := func(n int) []byte {
		b := bytes.Repeat([]byte{byte('a' + want.Len()%26)}, n)
		want.Write(b)
		return b
	}
	o.do(func() {
		for i := range 200 {
			switch i % 5 {
			case 0:
				o.loop.Write(c, piece(1+i*3))
			case 1:
				o.loop.Later(c, piece(1+i))
			case 2:
				o.loop.Cork(c)
				o.loop.Write(c, piece(10))
				o.loop.Write(c, piece(i))
			case 3:
				o.loop.WriteShared(c, piece(30_000))
			case 4:
				o.loop.Cork(c)
				o.loop.Write(c, piece(100))
				o.loop.WriteShared(c, piece(20_000)) // more than a cork holds
				o.loop.Later(c, piece(5))
			}
		}
		o.loop.End(c)
	})
	got, err := io.ReadAll(peer)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes came, %v; want %d in their order", len(got), err, want.Len())
	}
	peer.Close()
	o.none(t) // its owner had ended it
	o.do(func() {
		if n := o.loop.Queued(); n != 0 {
			t.Errorf("%d bytes are left", n)
		}
	})
}

// Drained comes when all is taken, and once.
func TestDrained(t *testing.T) {
	o, id := run(t, loop.Options{})
	c, peer := o.pair(t, id)
	o.do(func() { o.loop.Write(c, make([]byte, 100_000)) })
	o.none(t)
	if _, err := io.ReadFull(peer, make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	o.expect(t, "drained")
	o.none(t)
}

// A peer that takes nothing is ended, and its owner told.
func TestStuck(t *testing.T) {
	o, id := run(t, loop.Options{Stuck: 300 * time.Millisecond})
	c, _ := o.pair(t, id)
	o.do(func() { o.loop.Write(c, make([]byte, 1<<20)) })
	o.expect(t, "closed "+loop.ErrStuck.Error())
	if n := o.loop.Queued(); n != 0 || o.loop.Len() != 0 {
		t.Errorf("%d bytes and %d connections are left", n, o.loop.Len())
	}
}

// One that broke while it was written to is not there any more; its owner is
// told once, or not at all if it closed it in the meantime.
func TestBroken(t *testing.T) {
	for _, meanwhile := range []string{"", "close", "end", "give"} {
		o, id := run(t, loop.Options{})
		c, peer := o.pair(t, id)
		o.do(func() { o.loop.Pause(c) })
		_ = peer.CloseRead() // writes fail, and nothing is to be read
		var other *owner
		o.do(func() {
			other = &owner{loop: o.loop, events: make(chan string, 10)}
			otherID := o.loop.Register(other)
			o.loop.Write(c, []byte("x"))
			if o.loop.Alive(c) {
				t.Error("a broken connection is alive")
			}
			switch meanwhile {
			case "close":
				o.loop.Close(c)
			case "end":
				o.loop.End(c)
			case "give":
				o.loop.Give(c, otherID, 8)
			}
		})
		switch meanwhile {
		case "":
			o.expect(t, "closed ")
		case "give":
			other.expect(t, "closed ")
		}
		o.none(t)
		if n := o.loop.Len(); n != 0 {
			t.Errorf("%s: %d connections are left", meanwhile, n)
		}
	}
}

// Input waits while it is paused, and none is missed whenever it comes.
func TestPause(t *testing.T) {
	o, id := run(t, loop.Options{})
	c, peer := o.pair(t, id)
	o.do(func() { o.loop.Pause(c) })
	write(t, peer, "while paused")
	o.none(t)
	o.do(func() { o.loop.Resume(c) })
	o.expect(t, "input while paused")
	o.input = func(c loop.Conn, _ []byte) { o.loop.Pause(c) } // after each piece
	for range 100 {
		write(t, peer, "1")
		o.expect(t, "input 1")
		write(t, peer, "2")
		o.none(t)
		o.do(func() { o.loop.Resume(c) })
		o.expect(t, "input 2")
		o.do(func() { o.loop.Resume(c) })
	}
	// Its end is told at once, since nobody waits for what the owner does,
	write(t, peer, "3")
	o.expect(t, "input 3")
	peer.Close()
	o.expect(t, "closed EOF")
	// unless it still takes what was written.
	o.input = nil
	c, peer = o.pair(t, id)
	o.do(func() {
		o.loop.Pause(c)
		o.loop.Write(c, make([]byte, 100_000))
	})
	_ = peer.CloseWrite()
	o.none(t)
	if n, err := io.Copy(io.Discard, peer); n != 100_000 || err != nil {
		t.Errorf("%d bytes came, %v", n, err)
	}
	o.expect(t, "drained")
	o.expect(t, "closed EOF")
}

// The end that stands right behind the last bytes is seen, though no event
// tells of it again.
func TestEndBehindInput(t *testing.T) {
	o, id := run(t, loop.Options{})
	for range 200 {
		_, peer := o.pair(t, id)
		write(t, peer, "last")
		peer.Close()
		o.expect(t, "input last")
		o.expect(t, "closed EOF")
	}
	// Also when a borrower had it while it came.
	for range 100 {
		c, peer := o.pair(t, id)
		var lent *loop.Lent
		o.do(func() { lent = o.loop.Lend(c) })
		write(t, peer, "last")
		peer.Close()
		o.none(t)
		lent.Return(func() {})
		o.expect(t, "input last")
		o.expect(t, "closed EOF")
	}
}

// A Conn of a connection that ended does nothing to the one in its place.
func TestStale(t *testing.T) {
	o, id := run(t, loop.Options{})
	old, _ := o.pair(t, id)
	o.do(func() { o.loop.Close(old) })
	c, peer := o.pair(t, id)
	if uint32(old) != uint32(c) {
		t.Fatalf("the place was not taken again: %x, %x", old, c)
	}
	o.do(func() {
		l := o.loop
		l.Write(old, []byte("x"))
		l.Later(old, []byte("x"))
		l.Cork(old)
		l.Wake(old, time.Millisecond)
		l.Pause(old)
		l.Give(old, loop.Nobody, 0)
		l.Inject(old, []byte("x"))
		l.End(old)
		l.Close(old)
		if l.Alive(old) || l.Lend(old) != nil || l.Pending(old) != 0 || l.Peer(old).IsValid() {
			t.Error("the old one is still there")
		}
	})
	write(t, peer, "for the new one")
	o.expect(t, "input for the new one")
	o.do(func() { o.loop.Write(c, []byte("answer")) })
	b := make([]byte, 100)
	if n, err := peer.Read(b); string(b[:n]) != "answer" {
		t.Errorf("the new one got %q, %v", b[:n], err)
	}
}

// Wake-ups of a panicking owner cost it that connection alone.
func TestPanic(t *testing.T) {
	panics := make(chan any, 10)
	o, id := run(t, loop.Options{Panics: func(v any) { panics <- v }})
	c, peer := o.pair(t, id)
	other, otherPeer := o.pair(t, id)
	o.input = func(got loop.Conn, _ []byte) {
		if got == c {
			o.loop.Cork(c)
			o.loop.Write(c, []byte("half an answer"))
			panic("a fault")
		}
	}
	write(t, peer, "x")
	if v := <-panics; v != "a fault" {
		t.Error(v)
	}
	if b, err := io.ReadAll(peer); len(b) > 0 || err != nil {
		t.Errorf("the peer got %q, %v", b, err)
	}
	o.expect(t, "closed ")
	write(t, otherPeer, "y")
	o.expect(t, "input y")
	o.do(func() { o.loop.Write(other, []byte("z")) })
	if _, err := io.ReadFull(otherPeer, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// What still comes on a connection that ended on our side is read for a while,
// so that the peer gets the last words, but not as much as it likes to send.
func TestLinger(t *testing.T) {
	o, id := run(t, loop.Options{})
	c, peer := o.pair(t, id)
	write(t, peer, "before the end")
	o.expect(t, "input")
	o.do(func() {
		o.loop.Write(c, []byte("last words"))
		o.loop.End(c)
	})
	write(t, peer, "not heard any more")
	if b, err := io.ReadAll(peer); string(b) != "last words" || err != nil {
		t.Errorf("the peer got %q, %v", b, err)
	}
	sent := 0
	for began := time.Now(); ; {
		n, err := peer.Write(make([]byte, 10_000))
		if sent += n; err != nil {
			break
		}
		if time.Since(began) > patience {
			t.Fatal("the peer is read for ever")
		}
	}
	if sent > 2<<20 {
		t.Errorf("%d bytes were taken after the end", sent)
	}
	o.none(t)
	if n := o.loop.Len(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
