//go:build !nethttp

package loop_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/chappe/chappe/internal/loop"
)

// A lent connection is a net.Conn; what comes while it is returned is not lost.
func TestLend(t *testing.T) {
	o, id := run(t, loop.Options{})
	c, peer := o.pair(t, id)
	var lent *loop.Lent
	lend := func() {
		t.Helper()
		if o.do(func() { lent = o.loop.Lend(c) }); lent == nil {
			t.Fatal("it is not lent")
		}
	}
	b := make([]byte, 100)
	for i := range 500 { // bytes in flight at each moment of it
		lend()
		write(t, peer, "to the borrower")
		if n, err := lent.Read(b); string(b[:n]) != "to the borrower" {
			t.Fatalf("%d: the borrower read %q, %v", i, b[:n], err)
		}
		done := make(chan struct{})
		go func() { write(t, peer, "to the owner"); close(done) }()
		lent.Return(func() {})
		o.expect(t, "input to the owner")
		<-done
	}
	lend()
	ended := make(chan error, 2)
	for range 2 {
		go func() { _, err := lent.Read(make([]byte, 1)); ended <- err }()
	}
	_ = lent.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	for range 2 {
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a read past its deadline ends with %v", err)
		}
	}
	_ = lent.SetReadDeadline(time.Time{})
	for range 2 {
		go func() { _, err := lent.Read(make([]byte, 1)); ended <- err }()
	}
	write(t, peer, "12") // each gets one
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		go func() { _, err := lent.Write(make([]byte, 1<<20)); ended <- err }()
	}
	if _, err := io.ReadFull(peer, make([]byte, 10_000)); err != nil {
		t.Fatal(err)
	}
	_ = lent.Close()
	for range 2 {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write on a closed one ends with %v", err)
		}
	}
	if err := lent.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second Close returns %v", err)
	}
	if _, err := io.Copy(io.Discard, peer); err != nil {
		t.Error(err)
	}
	o.none(t)
}

// What waits to be written is not to be mixed with what a borrower writes.
func TestLendNeedsFlushed(t *testing.T) {
	o, id := run(t, loop.Options{})
	c, peer := o.pair(t, id)
	o.do(func() {
		o.loop.Cork(c)
		o.loop.Write(c, []byte("corked"))
		if !o.loop.Flushed(c) {
			t.Error("a cork that the socket takes is not flushed")
		}
		o.loop.Write(c, make([]byte, 100_000))
		if o.loop.Flushed(c) || o.loop.Lend(c) != nil {
			t.Error("it is lent with output that waits")
		}
	})
	if _, err := io.ReadFull(peer, make([]byte, 100_006)); err != nil {
		t.Fatal(err)
	}
	o.expect(t, "drained")
	o.do(func() {
		if lent := o.loop.Lend(c); lent == nil {
			t.Error("it is not lent")
		} else {
			_ = lent.Close()
		}
	})
}

// When the loop ends, whoever has a connection is told, and its descriptor is
// nobody's to use any more.
func TestLoopEnds(t *testing.T) {
	l, err := loop.NewPoller(loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := &owner{loop: l, events: make(chan string, 100)}
	id := l.Register(o)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	_, peer := o.pair(t, id)
	c, lentPeer := o.pair(t, id)
	var lent *loop.Lent
	o.do(func() { lent = o.loop.Lend(c) })
	ended := make(chan error, 1)
	go func() { _, err := lent.Read(make([]byte, 1)); ended <- err }()
	cancel()
	running.Wait()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read of the borrower ends with %v", err)
	}
	for range 2 {
		o.expect(t, "closed context canceled")
	}
	for _, p := range []net.Conn{peer, lentPeer} {
		if _, err := p.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the peer reads %v", err)
		}
	}
	l.Post(func() { t.Error("it runs after its end") }) // and does not write to a descriptor that is another's
}
