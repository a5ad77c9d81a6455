//go:build integration

package mailbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/bus"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/dovecot"
	"github.com/chappe/chappe/source/mailbox"
	"github.com/chappe/chappe/store"
)

// watched is a mailbox on a real Dovecot, watched into a real log.
type watched struct {
	t      *testing.T
	server *dovecot.Server
	db     *store.DB
	bus    *bus.Bus
	runner *mailbox.Runner
	looked chan struct{} // has a value after each look
	after  event.Cursor  // all up to it was taken by next
}

// newWatched starts it, with settings for Dovecot; without an address it is
// Dovecot's own.
func newWatched(t *testing.T, settings, address string) *watched {
	t.Helper()
	w := &watched{t: t, server: dovecot.Start(t, settings, "alice"), looked: make(chan struct{}, 1)}
	db, err := store.Open(t.Context(), t.TempDir())
	check(t, err)
	log, err := store.OpenLog(t.Context(), db, store.Options{Logger: slog.New(slog.DiscardHandler)})
	check(t, err)
	b, err := bus.New(t.Context(), log, bus.Options{EventBytes: 256 << 10, Logger: slog.New(slog.DiscardHandler)})
	check(t, err)
	t.Cleanup(func() { b.Close(); log.Close(); db.Close() })
	w.db, w.bus = db, b
	if address == "" {
		address = w.server.IMAP
	}
	w.runner = w.newRunner(address)
	return w
}

func (w *watched) newRunner(address string) *mailbox.Runner {
	w.t.Helper()
	a, err := mailbox.ParseAddress("imap://alice@" + address + "/INBOX")
	check(w.t, err)
	return &mailbox.Runner{
		Name: "alice", Topic: "mail/alice", Address: a,
		Password: func() (string, error) { return dovecot.Password, nil }, Dial: (&net.Dialer{}).DialContext,
		States: w.db, Publisher: w.bus, Logger: slog.New(slog.DiscardHandler), MaxData: 256 << 10, LogIns: make(chan struct{}, 1),
	}
}

// start runs the watch, again whenever it fails, until stop is called.
func (w *watched) start() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			_ = w.runner.Run(ctx, func(time.Time) {
				select {
				case w.looked <- struct{}{}:
				default:
				}
			})
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

// started runs the watch and returns when it has looked.
func (w *watched) started() (stop func()) {
	w.t.Helper()
	select {
	case <-w.looked:
	default:
	}
	stop = w.start()
	select {
	case <-w.looked:
	case <-time.After(20 * time.Second):
		w.t.Fatalf("the mailbox was not looked at:\n%s", w.server.Log())
	}
	return stop
}

// happened is an event in short.
type happened struct {
	Type    string
	Subject string
	UID     uint32
	Flags   string
	Unseen  uint32
}

// next waits for n events.
func (w *watched) next(n int) (list []happened) {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		page, err := w.bus.Read(w.t.Context(), event.Query{Patterns: []event.Pattern{"**"}, After: w.after, Limit: n - len(list)})
		check(w.t, err)
		for _, r := range page.Records {
			var data struct {
				UID, Unseen uint32
				Flags       []string
			}
			check(w.t, json.Unmarshal(r.Data, &data))
			list = append(list, happened{r.Type, r.Subject, data.UID, strings.Join(data.Flags, " "), data.Unseen})
			w.after = r.Cursor
		}
		if len(list) >= n {
			return list
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d events came, want %d: %+v\n%s", len(list), n, list, w.server.Log())
		}
	}
}

func (w *watched) want(want ...happened) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.next(len(want))); diff != "" {
		w.t.Errorf("events (-want +got):\n%s", diff)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestIntegrationMailbox(t *testing.T) {
	w := newWatched(t, "", "")
	w.server.Deliver("alice", "there before")
	stop := w.started()

	w.server.Deliver("alice", "first")
	w.want(happened{"mail.received", "first", 2, "", 2})
	w.server.DeliverRaw("alice", "Subject: =?iso-2022-jp?B?GyRCRnxLXBsoQg==?=\r\nFrom: nobody\r\n\r\n")
	w.want(happened{"mail.received", "日本", 3, "", 3})

	w.server.Do("alice", `STORE 2 +FLAGS (\Seen)`)
	w.want(happened{"mail.flags", "", 2, `\Seen`, 2})
	w.server.Do("alice", `STORE 1 +FLAGS (\Seen)`) // it was there before: the badge falls for it too
	w.want(happened{"mail.flags", "", 1, `\Seen`, 1})
	w.server.Do("alice", `STORE 3 +FLAGS ($Work)`, `STORE 3 +FLAGS (\Flagged)`)
	w.want(happened{"mail.flags", "", 3, `\Flagged $Work`, 1})
	w.server.Do("alice", `STORE 3 +FLAGS (\Deleted)`, `EXPUNGE`)
	got := w.next(1)
	if got[0].Type == "mail.flags" { // if it was told before it had gone
		got = w.next(1)
	}
	if diff := cmp.Diff([]happened{{"mail.expunged", "", 3, "", 0}}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	// What happens while nobody looks is told at the next connection, once.
	stop()
	for n := range 120 {
		w.server.Deliver("alice", fmt.Sprint("away ", n))
	}
	w.server.Do("alice", `STORE 2 -FLAGS (\Seen)`, `STORE 1 +FLAGS (\Deleted)`, `EXPUNGE`)
	stop = w.started()
	for n := range 120 {
		w.want(happened{"mail.received", fmt.Sprint("away ", n), uint32(4 + n), "", 121})
	}
	w.want(happened{"mail.flags", "", 2, "", 121}, happened{"mail.expunged", "", 1, "", 121})
	stop()
	stop = w.started()
	w.server.Deliver("alice", "last")
	w.want(happened{"mail.received", "last", 124, "", 122})

	// Other numbers: nothing is told twice.
	stop()
	w.server.Kill()
	w.server.Renumber("alice")
	w.server.Start()
	defer w.started()()
	w.server.Deliver("alice", "renumbered")
	list := w.next(2)
	if list[0].Type != "mail.reset" || list[1].Subject != "renumbered" {
		t.Errorf("after the folder was renumbered: %+v", list)
	}
}

// A server of the old days, without IDLE, CONDSTORE and ESEARCH, is asked.
func TestIntegrationMailboxPolling(t *testing.T) {
	w := newWatched(t, "imap_capability = IMAP4rev1 SASL-IR\n", "")
	w.runner.Every = time.Second
	w.server.Deliver("alice", "there before")
	defer w.started()()
	w.server.Deliver("alice", "first")
	w.want(happened{"mail.received", "first", 2, "", 2})
	w.server.Do("alice", `STORE 1:2 +FLAGS (\Seen)`)
	w.want(happened{"mail.flags", "", 1, `\Seen`, 0}, happened{"mail.flags", "", 2, `\Seen`, 0})
	w.server.Do("alice", `STORE 2 -FLAGS (\Seen)`)
	w.want(happened{"mail.flags", "", 2, "", 1})
	w.server.Do("alice", `STORE 1 +FLAGS (\Deleted)`, `EXPUNGE`)
	got := w.next(1)
	if got[0].Type == "mail.flags" { // if it was asked before it had gone
		got = w.next(1)
	}
	if diff := cmp.Diff([]happened{{"mail.expunged", "", 1, "", 1}}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if n := strings.Count(w.server.Log(), "Login: user=<alice>"); n > 5 {
		t.Errorf("%d logins, want one and those of the test", n)
	}
}

// A link that is cut anywhere, again and again, and a Dovecot that is killed,
// lose no mail and double none.
func TestIntegrationMailboxCuts(t *testing.T) {
	const mails, kills = 150, 3
	cutter := newCutter(t)
	w := newWatched(t, "", cutter.address)
	cutter.setTarget(w.server.IMAP)
	defer w.started()()
	for n := range mails {
		if n%(mails/kills) == mails/kills/2 {
			w.server.Kill()
			w.server.Start()
		}
		w.server.Deliver("alice", fmt.Sprint("mail ", n))
	}
	subjects := map[string]bool{}
	for n, got := range w.next(mails) { // a Dovecot that was killed may number them in another order
		if got.Type != "mail.received" || got.UID != uint32(n+1) || subjects[got.Subject] {
			t.Fatalf("event %d = %+v", n, got)
		}
		subjects[got.Subject] = true
	}
	t.Logf("%d mails through %d cut links and %d kills: each once", mails, cutter.cuts(), kills)
}

// cutter is a proxy that cuts each connection after some bytes.
type cutter struct {
	address string
	mu      sync.Mutex
	target  string
	n       int
}

func newCutter(t *testing.T) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	c := &cutter{address: l.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { c.pass(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return c
}

func (c *cutter) setTarget(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.target = address
}

func (c *cutter) cuts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *cutter) pass(conn net.Conn) {
	defer conn.Close()
	c.mu.Lock()
	target := c.target
	c.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() { // ends with either connection
		_, _ = io.Copy(server, conn)
		server.Close()
	}()
	_, err = io.CopyN(conn, server, 500+rand.Int64N(15_500))
	if err == nil || !errors.Is(err, io.EOF) {
		c.mu.Lock()
		c.n++
		c.mu.Unlock()
	}
}

// What strangers send arrives as text of bounded size, and hides no other mail.
func TestIntegrationHostileMails(t *testing.T) {
	w := newWatched(t, "", "")
	defer w.started()()
	fold := func(s string, n int) string { return strings.Repeat(s+"\r\n ", n) }
	for name, text := range map[string]string{
		"a subject of 3 MB":        "From: a@b.c\r\nSubject: " + fold(strings.Repeat("x", 900), 3300) + "end\r\n\r\n",
		"a hundred thousand to":    "Subject: many\r\nTo: " + fold("someone@example.org,", 100_000) + "last@example.org\r\n\r\n",
		"no head at all":           "\r\nbody\r\n",
		"bytes of no charset":      "Subject: \xff\xfe\x80 caf\xe9\r\nFrom: \xe9 <a@b.c>\r\n\r\n",
		"words that lie":           "Subject: =?utf-8?B?!!!!?= =?x-none?Q?=FF?= =?utf-8?Q?=00=0D=0AX-Injected:_1?=\r\n\r\n",
		"a list that never ends":   "From: <<<<<((((((\"\r\nTo: " + strings.Repeat("a:", 5000) + "\r\nSubject: x\r\n\r\n",
		"a date of the year 99999": "Date: Mon, 01 Jan 99999 00:00:00 +0000\r\nSubject: x\r\n\r\n",
		"a body of 5 MB":           "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("y", 998)+"\r\n", 5200),
	} {
		w.server.DeliverRaw("alice", text)
		w.server.Deliver("alice", "after "+name)
		got := w.next(2)
		if got[0].Type != "mail.received" || len(got[0].Subject) > 998 || strings.ContainsAny(got[0].Subject, "\r\n\x00") {
			t.Errorf("%s: %+v", name, got[0])
		}
		if got[1].Subject != "after "+name {
			t.Errorf("after %s comes %+v", name, got[1])
		}
	}
}
