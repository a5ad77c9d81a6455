package mailbox_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/source/mailbox"
)

// TestMain makes the certificate of httptest, for example.com and 127.0.0.1,
// one of the system's, and looks for what the tests leave behind.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mailbox")
	if err != nil {
		panic(err)
	}
	web := httptest.NewTLSServer(nil)
	web.Close()
	authorities := filepath.Join(dir, "authorities.pem")
	if err := os.WriteFile(authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", authorities) // read once, at the first handshake
	certificates = web.TLS.Certificates
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// memory is a log and the checkpoint written with it.
type memory struct {
	mu      sync.Mutex
	batches []event.Batch
	state   []byte
	tries   int
	failAt  int // the try that fails, from 1; all from there on
	limit   int // bytes of data that an event may carry
}

var errFull = errors.New("the disk is full")

func (m *memory) Publish(ctx context.Context, b event.Batch) ([]event.Receipt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tries++; m.failAt > 0 && m.tries >= m.failAt {
		return nil, errFull
	}
	if b.Checkpoint == nil || b.Checkpoint.Watch != "alice" || !json.Valid(b.Checkpoint.State) {
		return nil, fmt.Errorf("a batch with the checkpoint %+v", b.Checkpoint)
	}
	for i := range b.Events {
		e := &b.Events[i]
		if err := e.Validate(); err != nil {
			return nil, err
		}
		if m.limit > 0 && len(e.Data) > m.limit {
			return nil, &event.LimitError{What: "event", Got: len(e.Data), Limit: m.limit, Unit: "bytes"}
		}
	}
	if len(b.Events) > 1000 {
		return nil, &event.LimitError{What: "batch", Got: len(b.Events), Limit: 1000, Unit: "events"}
	}
	m.batches = append(m.batches, b)
	m.state = b.Checkpoint.State
	return make([]event.Receipt, len(b.Events)), ctx.Err()
}

func (m *memory) State(context.Context, string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, nil
}

// take returns the batches since the last time.
func (m *memory) take() []event.Batch {
	m.mu.Lock()
	defer m.mu.Unlock()
	batches := m.batches
	m.batches = nil
	return batches
}

// each are the events since the last time, in short: what, the UID, and the
// flags where they have changed.
func (m *memory) each() (list []string) {
	for _, b := range m.take() {
		for _, e := range b.Events {
			var data struct {
				UID   uint32
				Flags []string
			}
			if err := json.Unmarshal(e.Data, &data); err != nil {
				panic(err)
			}
			text := fmt.Sprint(strings.TrimPrefix(e.Type, "mail."), " ", data.UID)
			if e.Type == "mail.flags" {
				text += " " + strings.Join(data.Flags, " ")
			}
			list = append(list, strings.TrimSpace(text))
		}
	}
	return list
}

// news are the same, with mails received in a row as one.
func (m *memory) news() (list []string) {
	var first, last uint32
	for _, text := range append(m.each(), "") {
		var uid uint32
		_, _ = fmt.Sscanf(text, "received %d", &uid)
		if last != 0 && uid == last+1 {
			last = uid
			list[len(list)-1] = received(first, last)
			continue
		}
		if first, last = uid, uid; text != "" {
			list = append(list, text)
		}
	}
	return list
}

// received is the news of mails from one UID to another.
func received(first, last uint32) string {
	if first == last {
		return fmt.Sprintf("received %d", first)
	}
	return fmt.Sprintf("received %d..%d", first, last)
}

// newRunner watches the folder on the server.
func newRunner(s *server, m *memory) *mailbox.Runner {
	address, err := mailbox.ParseAddress("imap://alice@mail.example/" + s.folder)
	if err != nil {
		panic(err)
	}
	return &mailbox.Runner{
		Name: "alice", Topic: "mail/alice", Address: address, Password: func() (string, error) { return "secret", nil }, Dial: s.dial,
		States: m, Publisher: m, Logger: slog.New(slog.DiscardHandler), MaxData: 256 << 10, LogIns: make(chan struct{}, 1),
	}
}

// run is a Runner at work, in the bubble of the test.
type run struct {
	t      *testing.T
	server *server
	cancel context.CancelFunc
	ended  chan struct{}
	err    error

	mu      sync.Mutex
	reports []time.Time
}

func start(t *testing.T, s *server, r *mailbox.Runner) *run {
	ctx, cancel := context.WithCancel(t.Context())
	w := &run{t: t, server: s, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		w.err = r.Run(ctx, func(next time.Time) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.reports = append(w.reports, next)
		})
	}()
	return w
}

// settle lets time pass, in which all is noticed that was done; the watch must
// be at work still.
func (w *run) settle() {
	w.t.Helper()
	time.Sleep(patience)
	synctest.Wait()
	select {
	case <-w.ended:
		w.t.Fatalf("the watch ended: %v", w.err)
	default:
	}
}

// stop ends it, at once.
func (w *run) stop() {
	w.t.Helper()
	before := time.Now()
	w.cancel()
	<-w.ended
	if !errors.Is(w.err, context.Canceled) {
		w.t.Errorf("Run = %v, want it to wrap %v", w.err, context.Canceled)
	}
	if took := time.Since(before); took > 100*time.Millisecond {
		w.t.Errorf("it took %v to end", took)
	}
	w.server.drop()
}

// fails waits until it ends by itself, and returns why.
func (w *run) fails() error {
	w.t.Helper()
	defer w.server.drop()
	defer w.cancel()
	select {
	case <-w.ended:
	case <-time.After(time.Hour):
		w.t.Fatal("the watch goes on")
	}
	if w.err == nil || errors.Is(w.err, context.Canceled) {
		w.t.Errorf("Run = %v, want a reason", w.err)
	}
	synctest.Wait()
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	for _, c := range w.server.talks {
		select {
		case <-c.ended:
		default:
			w.t.Errorf("Run = %v, and its connection is open still", w.err)
		}
	}
	closed := w.server.closed.Load()
	w.cancel()
	synctest.Wait()
	if w.server.closed.Load() != closed {
		w.t.Errorf("Run = %v, and its context keeps the connection still", w.err)
	}
	return w.err
}

// reported are the times of the next look that were reported since the last time.
func (w *run) reported() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	reports := w.reports
	w.reports = nil
	return reports
}

// want compares what was published since the last time.
func (m *memory) want(t *testing.T, when string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, m.news()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// settled runs a watch that has noted what is there; no news is left of it.
func settled(t *testing.T, s *server, m *memory) *run {
	t.Helper()
	w := start(t, s, newRunner(s, m))
	w.settle()
	m.take()
	return w
}

// look runs the watch until it waits to be told or to ask, and ends it.
func look(t *testing.T, s *server, m *memory) {
	t.Helper()
	w := start(t, s, newRunner(s, m))
	w.settle()
	w.stop()
}

// Servers with and without what helps.
const (
	bareCaps = "IMAP4rev1 AUTH=PLAIN"
	idleCaps = "IMAP4rev1 AUTH=PLAIN IDLE"
)

// onEachKind runs a test with a server of each kind, each in a bubble.
func onEachKind(t *testing.T, test func(t *testing.T, caps string)) {
	for _, caps := range []string{bareCaps, idleCaps, bareCaps + " CONDSTORE", bareCaps + " ESEARCH", idleCaps + " CONDSTORE", allCaps} {
		t.Run(strings.TrimPrefix(caps, "IMAP4rev1 "), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, caps) })
		})
	}
}

// onTwoKinds does so with one that numbers changes and tells of them, and one
// that does neither: for tests that take long.
func onTwoKinds(t *testing.T, test func(t *testing.T, caps string)) {
	for _, caps := range []string{bareCaps, allCaps} {
		t.Run(strings.TrimPrefix(caps, "IMAP4rev1 "), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, caps) })
		})
	}
}
