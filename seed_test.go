//go:build integration

package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/sys/unix"

	"github.com/chappe/chappe/internal/dovecot"
)

var measure = flag.Duration("measure", 20*time.Second, "how long TestIntegrationSeedBytes measures; 5m is the article's time, and shorter runs keep its proportions")

// The first seed's two measurements: bytes on the wire, with the heads and
// acknowledgements of TCP/IP, of a page that polls each 30 s against one that
// is told, and of a client that fetches a mail's flags each 30 s against one
// that idles. Go test -measure 5m takes the times as they are; a shorter run
// takes all of them shorter in proportion.
func TestIntegrationSeedBytes(t *testing.T) {
	scaled := func(d time.Duration) time.Duration { return time.Duration(float64(d) * measure.Minutes() / 5) }
	wire, err := listenOnWire()
	if err != nil {
		t.Skipf("counting bytes on the wire takes root: %v", err)
	}
	defer wire.close()
	w := newWebmail(t, fmt.Sprintf("imap_idle_notify_interval = %d secs\n", int(scaled(2*time.Minute).Seconds())),
		fmt.Sprintf("limits: {heartbeat: %v}\n", scaled(45*time.Second)))
	w.dovecot.Deliver("alice", "a mail that is there")
	ctx, stop := browser(t)
	defer stop()
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	w.open(ctx, "as in the example", "websocket")
	polling := w.open(ctx, "mounted below a path", "websocket")
	address := fmt.Sprintf("http://%s/before?every=%v", w.front["mounted below a path"], scaled(30*time.Second).Seconds())
	if err := chromedp.Do(polling.ctx, chromedp.Navigate(address)); err != nil {
		t.Fatal(err)
	}
	fetching := newFetcher(t, w.dovecot.IMAP)

	pushPort, pollPort, imapPort := port(t, w.front["as in the example"]), port(t, w.front["mounted below a path"]), port(t, w.dovecot.IMAP)
	wire.reset()
	end := time.After(*measure)
	tick := time.NewTicker(scaled(30 * time.Second))
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-tick.C:
			fetching.fetch()
		case <-end:
			done = true
		}
	}
	push, poll := wire.count(pushPort, 0), wire.count(pollPort, 0)
	fetch := wire.count(imapPort, fetching.port())
	// The site asks the mailbox too, for the page that polls: those are short
	// connections of others.
	idle := wire.longest(imapPort, fetching.port())
	t.Logf("in %v, as in 5 minutes: the polling page %d bytes, the page that is told %d: %.1f times less", *measure, poll, push, float64(poll)/float64(push))
	t.Logf("in %v, as in 5 minutes: polling FETCH %d bytes, IDLE %d: %.1f times less", *measure, fetch, idle, float64(fetch)/float64(idle))
	if push == 0 || push*3 > poll {
		t.Errorf("the page that is told takes %d bytes, the polling one %d", push, poll)
	}
	if idle == 0 || idle*3 > fetch {
		t.Errorf("IDLE takes %d bytes, polling FETCH %d", idle, fetch)
	}
}

// fetcher asks for a mail's flags again and again, as the article's did.
type fetcher struct {
	t    *testing.T
	conn net.Conn
	text *textproto.Conn
	n    int
}

func newFetcher(t *testing.T, address string) *fetcher {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	f := &fetcher{t: t, conn: conn, text: textproto.NewConn(conn)}
	t.Cleanup(func() { conn.Close() })
	if _, err := f.text.ReadLine(); err != nil {
		t.Fatal(err)
	}
	f.do(fmt.Sprintf("LOGIN alice %q", dovecot.Password))
	f.do("SELECT INBOX")
	return f
}

func (f *fetcher) fetch() { f.do("UID FETCH 1 FLAGS") }

func (f *fetcher) do(command string) {
	f.t.Helper()
	f.n++
	tag := strconv.Itoa(100 + f.n)
	if err := f.text.PrintfLine("%s %s", tag, command); err != nil {
		f.t.Fatal(err)
	}
	for {
		line, err := f.text.ReadLine()
		if err != nil {
			f.t.Fatal(err)
		}
		if len(line) > 3 && line[:3] == tag {
			return
		}
	}
}

func (f *fetcher) port() int { return port(f.t, f.conn.LocalAddr().String()) }

func port(t *testing.T, address string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wire counts what passes on the loopback, by connection (packet(7)).
type wire struct {
	socket int
	ended  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	bytes  map[[2]int]int // by the ports, the lower first
	last   map[[2]int]time.Time
	first  map[[2]int]time.Time
}

func listenOnWire() (*wire, error) {
	bigEndian := func(n uint16) uint16 { return n<<8 | n>>8 }
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(bigEndian(unix.ETH_P_IP)))
	if err != nil {
		return nil, err
	}
	lo, err := net.InterfaceByName("lo")
	if err == nil {
		err = unix.Bind(socket, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_IP), Ifindex: lo.Index})
	}
	if err == nil {
		err = unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	}
	if err != nil {
		unix.Close(socket)
		return nil, err
	}
	w := &wire{socket: socket}
	w.reset()
	w.ended.Go(w.listen)
	return w, nil
}

func (w *wire) listen() {
	const ethernet = 14 // bytes of a frame's head, which this kind of socket leaves out
	packet := make([]byte, 128)
	for {
		n, _, err := unix.Recvfrom(w.socket, packet, 0)
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			return
		}
		if ihl := int(packet[0]&15) * 4; err == nil && n >= ihl+4 && packet[9] == unix.IPPROTO_TCP {
			from, to := int(binary.BigEndian.Uint16(packet[ihl:])), int(binary.BigEndian.Uint16(packet[ihl+2:]))
			key, now := [2]int{min(from, to), max(from, to)}, time.Now()
			w.bytes[key] += ethernet + int(binary.BigEndian.Uint16(packet[2:]))
			if w.first[key].IsZero() {
				w.first[key] = now
			}
			w.last[key] = now
		}
		w.mu.Unlock()
	}
}

func (w *wire) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes, w.first, w.last = map[[2]int]int{}, map[[2]int]time.Time{}, map[[2]int]time.Time{}
}

// count is the bytes of a server's port, with one peer's port if that is not 0.
func (w *wire) count(server, peer int) (sum int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, n := range w.bytes {
		if (key[0] == server || key[1] == server) && (peer == 0 || key[0] == peer || key[1] == peer) {
			sum += n
		}
	}
	return sum
}

// longest is the bytes of the server's longest-lived connection, but for one peer's.
func (w *wire) longest(server, but int) (bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var longest time.Duration
	for key, n := range w.bytes {
		ours := (key[0] == server || key[1] == server) && key[0] != but && key[1] != but
		if lived := w.last[key].Sub(w.first[key]); ours && lived > longest {
			longest, bytes = lived, n
		}
	}
	return bytes
}

func (w *wire) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.ended.Wait()
	unix.Close(w.socket)
}
