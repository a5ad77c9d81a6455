package front_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/loop"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// fixture is a front that listens.
type fixture struct {
	*front.Server
	registry *prometheus.Registry
	http     *http.Server
	address  string
	waiter   *waiter // on each of the loops
}

// start has a front listen on loopback. Setup says what it handles itself.
func start(t testing.TB, o front.Options, h http.Handler, setup func(*fixture)) *fixture {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, l, o, h, setup)
}

func startOn(t testing.TB, l net.Listener, o front.Options, h http.Handler, setup func(*fixture)) *fixture {
	t.Helper()
	f := &fixture{registry: prometheus.NewRegistry(), address: l.Addr().String()}
	o.Logger, o.Metrics = slog.New(slog.DiscardHandler), f.registry
	if o.Connections == 0 {
		o.Connections = 20_000
	}
	if o.Loops == 0 {
		o.Loops = 2
	}
	var err error
	if f.Server, err = front.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	f.waiter = newWaiter(f.Server)
	if setup != nil {
		setup(f)
	}
	f.http = &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	handed, err := f.Listen(l, f.http)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = f.http.Serve(handed) }() // ended by Close
	t.Cleanup(func() { f.http.Close() })
	return f
}

// dial connects, with a deadline for the whole connection.
func (f *fixture) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func send(t testing.TB, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// seen returns when the front, of one loop, has read what was sent before on
// other connections: it has answered on one of its own.
func (f *fixture) seen(t testing.TB) {
	t.Helper()
	conn := f.dial(t)
	defer conn.Close()
	send(t, conn, "GET /seen HTTP/1.1\r\nHost: h\r\n\r\n")
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// open is how many connections the loops have.
func (f *fixture) open() (n int) {
	for _, l := range f.Loops() {
		n += l.Len()
	}
	return n
}

// count is a counter's or histogram's value, all labels that hold text added.
func (f *fixture) count(t testing.TB, name, text string) (sum float64) {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if strings.Contains(m.String(), text) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// await waits until done says so.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s did not come", what)
		}
	}
}

// waiter owns connections that wait; each loop has one of its number.
type waiter struct {
	ids    map[*loop.Loop]loop.OwnerID
	input  chan string
	closed chan error
}

func newWaiter(s *front.Server) *waiter {
	w := &waiter{ids: map[*loop.Loop]loop.OwnerID{}, input: make(chan string, 10_000), closed: make(chan error, 10_000)}
	for _, l := range s.Loops() {
		id := make(chan loop.OwnerID)
		l.Post(func() { id <- l.Register(w) })
		w.ids[l] = <-id
	}
	return w
}

func (w *waiter) id(x *front.Exchange) loop.OwnerID { return w.ids[x.Loop()] }

// Input implements loop.Owner.
func (w *waiter) Input(_ loop.Conn, _ uint32, b []byte) { w.input <- string(b) }

// Drained implements loop.Owner.
func (w *waiter) Drained(loop.Conn, uint32) {}

// Timeout implements loop.Owner.
func (w *waiter) Timeout(loop.Conn, uint32) {}

// Closed implements loop.Owner.
func (w *waiter) Closed(_ loop.Conn, _ uint32, err error) { w.closed <- err }
