package mailbox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/event"
)

func TestFirstLookIsNoNews(t *testing.T) {
	tests := []struct {
		backfill int
		want     []string
	}{
		{0, nil},
		{1, []string{"received 3"}},
		{2, []string{"received 2..3"}},
		{9, []string{"received 1..3"}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("backfill %d", tt.backfill), func(t *testing.T) {
			onEachKind(t, func(t *testing.T, caps string) {
				s, m := newServer("a", "b", "c"), &memory{}
				s.caps = caps
				r := newRunner(s, m)
				r.Backfill = tt.backfill
				w := start(t, s, r)
				w.settle()
				m.want(t, "first look", tt.want...)
				s.deliver("d")
				w.settle()
				m.want(t, "later", "received 4")
				w.stop()
			})
		})
	}
}

func TestEmptyFolder(t *testing.T) {
	onEachKind(t, func(t *testing.T, caps string) {
		s, m := newServer(), &memory{}
		s.caps = caps
		w := start(t, s, newRunner(s, m))
		w.settle()
		if len(m.take()) == 0 {
			t.Error("the first look leaves no checkpoint")
		}
		s.deliver("a")
		w.settle()
		w.stop()
		s.deliver("b")
		look(t, s, m)
		m.want(t, "mails", received(1, 2))
		s.expunge(1, 2)
		look(t, s, m)
		m.want(t, "emptied", "expunged 1", "expunged 2")
	})
}

func TestReceived(t *testing.T) {
	onEachKind(t, func(t *testing.T, caps string) {
		s, m := newServer("old"), &memory{}
		s.caps = caps
		w := settled(t, s, m)
		s.add(&stored{head: "From: =?utf-8?q?Ann=C3=A9?= <ann@a.example>\r\nTo: alice@mail.example, \"B, Bob\" <bob@b.example>\r\n" +
			"Subject: =?iso-8859-1?q?caf=E9?=\r\n noir\r\nDate: Fri, 31 Dec 1999 10:00:00 +0100\r\nMessage-ID: <1@a.example>\r\n\r\n",
			flags: []string{`\Flagged`, "$Work", `\Recent`}, date: "31-Dec-1999 10:00:05 +0100"})
		w.settle()
		w.stop()

		batches := m.take()
		var events []event.Event
		for _, b := range batches {
			events = append(events, b.Events...)
		}
		if len(events) != 1 {
			t.Fatalf("events = %+v, want one", events)
		}
		e := events[0]
		want := `{"account":"alice","folder":"INBOX","uidvalidity":7,"unseen":2,"uid":2,"message_id":"1@a.example",` +
			`"from":[{"name":"Anné","address":"ann@a.example"}],"to":[{"name":"","address":"alice@mail.example"},{"name":"B, Bob","address":"bob@b.example"}],` +
			`"subject":"café noir","date":"1999-12-31T09:00:00Z","size":1204,"flags":["\\Flagged","$Work"]}`
		if diff := cmp.Diff(want, string(e.Data)); diff != "" {
			t.Errorf("data (-want +got):\n%s", diff)
		}
		e.Data = nil
		if diff := cmp.Diff(event.Event{
			ID: "alice@mail.example/INBOX;UIDVALIDITY=7/;UID=2", Source: "/mailboxes/alice", Type: "mail.received", Subject: "café noir",
			Topic: "mail/alice", Time: time.Date(1999, 12, 31, 9, 0, 5, 0, time.UTC),
		}, e); diff != "" {
			t.Errorf("event (-want +got):\n%s", diff)
		}
	})
}

// TestInternalDate holds that an event has a time that it can carry, and not
// one to come.
func TestInternalDate(t *testing.T) {
	tests := []struct {
		date string
		want string // "": now
	}{
		{"31-Dec-1999 10:00:05 +0100", "1999-12-31T09:00:05Z"},
		{" 1-Dec-1999 10:00:05 +0000", "1999-12-01T10:00:05Z"},
		{"31-Dec-2099 10:00:05 +0100", ""},
		{"01-Jan-0000 00:00:00 +0000", ""},
		{"01-Jan-0001 00:00:00 +0100", ""}, // in UTC that is the year 0
		{"31-Dec-9999 23:59:59 -0100", ""},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			s, m := newServer(), &memory{}
			s.add(&stored{head: "Subject: a\r\n\r\n", date: tt.date})
			r := newRunner(s, m)
			r.Backfill = 1
			w := start(t, s, r)
			now := time.Now().UTC().Format(time.RFC3339)
			w.settle()
			w.stop()
			for _, b := range m.take() {
				for _, e := range b.Events {
					got, want := e.Time.Format(time.RFC3339), tt.want
					if want == "" {
						want = now
					}
					if got != want {
						t.Errorf("INTERNALDATE %q: the event is of %s, want %s", tt.date, got, want)
					}
				}
			}
		})
	}
}

func TestAway(t *testing.T) {
	onEachKind(t, func(t *testing.T, caps string) {
		s, m := newServer("a", "b", "c"), &memory{}
		s.caps = caps
		look(t, s, m)
		look(t, s, m)
		m.want(t, "nothing happened")

		s.deliver("d")
		s.flag(1, `\Seen`)
		s.expunge(2)
		s.deliver("e")
		look(t, s, m)
		m.want(t, "came, changed and gone", "received 4..5", `flags 1 \Seen`, "expunged 2")
		for range 2 {
			look(t, s, m)
			m.want(t, "told already")
		}

		s.deliver("f") // one there, one gone: as many as before
		s.expunge(3)
		look(t, s, m)
		m.want(t, "as many as before", "received 6", "expunged 3")

		s.expunge(s.deliver("g")) // nobody has known it
		look(t, s, m)
		m.want(t, "came and gone")
	})
}

func TestThousandsCameWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a", "b"), &memory{}
		look(t, s, m)
		m.take()
		for i := range 3000 {
			s.deliver(fmt.Sprint("n", i))
		}
		look(t, s, m)
		for _, b := range m.batches {
			if len(b.Events) > 64 {
				t.Errorf("a batch of %d", len(b.Events))
			}
			if len(b.Checkpoint.State) > 20<<10 {
				t.Errorf("a checkpoint of %d bytes", len(b.Checkpoint.State))
			}
		}
		m.want(t, "mails", received(3, 3002))
		s.flag(3002, `\Seen`)
		s.flag(3, `\Seen`) // not one of the newest any more
		look(t, s, m)
		m.want(t, "flags", `flags 3002 \Seen`)
	})
}

// TestThousandsAndOneVanishes holds that a mail that goes between the count and
// the look does not hide those before it.
func TestThousandsAndOneVanishes(t *testing.T) {
	onTwoKinds(t, func(t *testing.T, caps string) {
		s, m := newServer("a", "b"), &memory{}
		s.caps = caps
		look(t, s, m)
		m.take()
		for range 1100 {
			s.deliver("n")
		}
		s.hook = once("FETCH", func(*talk, string, string) bool {
			s.expunge(1050)
			return false
		})
		look(t, s, m)
		m.want(t, "mails", received(3, 1049), received(1051, 1102))
	})
}

// TestCrashBetweenBatches fails at each write in turn: the next watch goes on
// from the last checkpoint, and all is told once.
func TestCrashBetweenBatches(t *testing.T) {
	const mails = 110
	onTwoKinds(t, func(t *testing.T, caps string) {
		for failAt := 1; ; failAt++ {
			s, m := newServer("a", "b", "c"), &memory{}
			s.caps = caps
			look(t, s, m)
			m.take()
			for range mails {
				s.deliver("n")
			}
			s.flag(1, `\Seen`)
			s.expunge(2)
			m.failAt = m.tries + failAt
			failed := false
			if w := start(t, s, newRunner(s, m)); true {
				select {
				case <-w.ended:
					failed = errors.Is(w.fails(), errFull)
				case <-time.After(patience):
					w.stop()
				}
			}
			m.failAt = 0
			look(t, s, m)
			m.want(t, fmt.Sprintf("failure at write %d", failAt), received(4, mails+3), `flags 1 \Seen`, "expunged 2")
			if !failed {
				if failAt < 4 {
					t.Errorf("only %d writes", failAt-1)
				}
				return
			}
		}
	})
}

// TestCrashDuringBackfill holds the same for the first look.
func TestCrashDuringBackfill(t *testing.T) {
	onTwoKinds(t, func(t *testing.T, caps string) {
		for failAt := 1; failAt < 5; failAt++ {
			s, m := newServer(strings.Fields(strings.Repeat("n ", 80))...), &memory{}
			s.caps = caps
			m.failAt = failAt
			for range 2 { // the crash, and the next start
				r := newRunner(s, m)
				r.Backfill = 70
				w := start(t, s, r)
				select {
				case <-w.ended:
					_ = w.fails()
				case <-time.After(patience):
					w.stop()
				}
				m.failAt = 0
			}
			m.want(t, fmt.Sprintf("failure at write %d", failAt), received(11, 80))
		}
	})
}

// TestCutAtEachCommand ends the connection before each command in turn.
func TestCutAtEachCommand(t *testing.T) {
	onTwoKinds(t, func(t *testing.T, caps string) {
		for cut := 1; ; cut++ {
			s, m := newServer("a", "b", "c"), &memory{}
			s.caps = caps
			look(t, s, m)
			m.take()
			for range 60 {
				s.deliver("n")
			}
			s.flag(1, `\Seen`)
			n := 0
			s.hook = func(c *talk, _, verb, _ string) bool {
				if n++; n == cut {
					_ = c.Close()
				}
				return n == cut
			}
			w := start(t, s, newRunner(s, m))
			select {
			case <-w.ended:
				_ = w.fails()
			case <-time.After(10 * time.Second):
				w.stop()
				if cut < 7 {
					t.Errorf("only %d commands", cut-1)
				}
				return
			}
			s.hook = nil
			look(t, s, m)
			m.want(t, fmt.Sprintf("cut before command %d", cut), received(4, 63), `flags 1 \Seen`)
		}
	})
}

func TestOtherFolderStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a"), &memory{}
		look(t, s, m)
		m.take()
		other := newServer("x", "y")
		other.folder = "Lists/go"
		look(t, other, m)
		m.want(t, "another folder's mails")
		other.deliver("z")
		look(t, other, m)
		m.want(t, "its news", "received 3")
	})
}

// TestOtherWayToTheSame holds that another port, or TLS, is no other mailbox.
func TestOtherWayToTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a"), &memory{}
		look(t, s, m)
		m.take()
		s.deliver("b")
		r := newRunner(s, m)
		r.Address.Port = "10143"
		w := start(t, s, r)
		w.settle()
		w.stop()
		m.want(t, "a mail", "received 2")
	})
}

func TestUnreadableCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a"), &memory{state: []byte("{")}
		if err := start(t, s, newRunner(s, m)).fails(); !strings.Contains(err.Error(), "checkpoint") {
			t.Errorf("Run = %v, want an error about the checkpoint", err)
		}
		if got := s.sent(); got != "" {
			t.Errorf("it logs in all the same: %q", got)
		}
	})
}

// TestSmallEvents holds that with the smallest limits.event that the
// configuration takes, an event is cut, not lost.
func TestSmallEvents(t *testing.T) {
	var keywords []string
	for i := range 50 {
		keywords = append(keywords, fmt.Sprintf("%s-%d", strings.Repeat("<", 90), i))
	}
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a"), &memory{limit: 1024}
		start := func() *run { r := newRunner(s, m); r.MaxData = 1024; return start(t, s, r) }
		w := start()
		w.settle()
		s.add(&stored{flags: keywords, head: "From: \"" + strings.Repeat("&", 300) + "\" <ann@a.example>\r\nTo: " + strings.Repeat("bob@b.example, ", 100) + "bob@b.example\r\n" +
			"Subject: " + strings.Repeat("<", 500) + "\r\nMessage-ID: <" + strings.Repeat("<", 200) + ">\r\n\r\n"})
		w.settle()
		s.flag(1, append(keywords, `\Seen`)...)
		s.flag(2, append([]string{`\Flagged`}, keywords...)...)
		w.settle()
		batches := m.take()
		w.stop()
		var got []string
		for _, b := range batches {
			for _, e := range b.Events {
				var data struct {
					UID     uint32
					Subject string
					Flags   []string
				}
				if err := json.Unmarshal(e.Data, &data); err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprintf("%s %d %d", e.Type, data.UID, len(data.Subject)))
				if e.Type == "mail.flags" && data.Flags == nil {
					t.Errorf("%s has no flags", e.Data)
				}
			}
		}
		if diff := cmp.Diff([]string{"mail.received 2 100", "mail.flags 1 0", "mail.flags 2 0"}, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestRunsWhenItIsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a"), &memory{}
		r := newRunner(s, m)
		r.LogIns <- struct{}{}
		w := start(t, s, r)
		w.settle()
		if got := s.sent(); got != "" {
			t.Errorf("it connects out of turn: %q", got)
		}
		<-r.LogIns
		w.settle()
		if len(m.take()) == 0 {
			t.Error("it does not begin when it is its turn")
		}
		select {
		case r.LogIns <- struct{}{}:
		default:
			t.Error("it keeps its turn for ever")
		}
		w.stop()

		waiting := start(t, s, r) // the turn is still taken
		synctest.Wait()
		waiting.stop()
	})
}
