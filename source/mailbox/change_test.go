package mailbox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/source"
)

func TestFlags(t *testing.T) {
	tests := []struct {
		name          string
		before, after []string
		want          string // "": it is no news
	}{
		{"seen", nil, []string{`\Seen`}, `flags 2 \Seen`},
		{"unseen", []string{`\Seen`}, nil, "flags 2"},
		{"flagged", nil, []string{`\Flagged`}, `flags 2 \Flagged`},
		{"answered", []string{`\Seen`}, []string{`\Seen`, `\Answered`}, `flags 2 \Seen \Answered`},
		{"deleted", nil, []string{`\Deleted`}, `flags 2 \Deleted`},
		{"one for another", []string{`\Seen`}, []string{`\Flagged`}, `flags 2 \Flagged`},
		{"in other letters", []string{`\Seen`}, []string{`\SEEN`}, ""},
		{"keyword", nil, []string{"$Work"}, ""},
		{"keyword gone", []string{"$Work", `\Seen`}, []string{`\Seen`}, ""},
		{"draft", nil, []string{`\Draft`}, ""},
		{"keyword named like a flag", nil, []string{"Seen"}, ""},
		{"seen and keywords", nil, []string{"$Work", `\Seen`}, `flags 2 $Work \Seen`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onTwoKinds(t, func(t *testing.T, caps string) {
				var want []string
				if tt.want != "" {
					want = []string{tt.want}
				}
				s, m := newServer("a", "b", "c"), &memory{}
				s.caps = caps
				s.flag(2, tt.before...)
				w := settled(t, s, m)
				s.flag(2, tt.after...)
				w.settle()
				m.want(t, "while connected", want...)
				w.stop()
				look(t, s, m)
				m.want(t, "told already")

				s.flag(2, tt.before...)
				look(t, s, m)
				m.take()
				s.flag(2, tt.after...)
				look(t, s, m)
				m.want(t, "while away", want...)
			})
		})
	}
}

func TestFlagsData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a", "b"), &memory{}
		look(t, s, m)
		m.take()
		s.flag(2, `\Seen`)
		s.expunge(1)
		look(t, s, m)
		var got []string
		for _, b := range m.take() {
			for _, e := range b.Events {
				got = append(got, fmt.Sprint(e.Source, " ", e.Type, " ", e.Topic, " ", e.ID, e.Subject, " ", string(e.Data)))
				if !e.Time.Equal(time.Now().Add(-patience)) {
					t.Errorf("%s is of %v, want when it was seen", e.Type, e.Time)
				}
			}
		}
		want := []string{
			`/mailboxes/alice mail.flags mail/alice  {"account":"alice","folder":"INBOX","uidvalidity":7,"unseen":0,"uid":2,"flags":["\\Seen"]}`,
			`/mailboxes/alice mail.expunged mail/alice  {"account":"alice","folder":"INBOX","uidvalidity":7,"unseen":0,"uid":1}`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestManyFlags holds that a whole window is one batch that the log takes.
func TestManyFlags(t *testing.T) {
	onTwoKinds(t, func(t *testing.T, caps string) {
		s, m := newServer(), &memory{}
		s.caps = caps
		for range 1200 {
			s.deliver("n")
		}
		w := settled(t, s, m)
		for uid := uint32(1); uid <= 1200; uid++ {
			if uid%2 == 0 {
				s.flag(uid, `\Seen`)
			}
		}
		s.expunge(201, 1199, 199)
		w.settle()
		w.stop()
		got := m.news()
		if len(got) != 502 || got[0] != `flags 202 \Seen` || got[499] != `flags 1200 \Seen` || got[500] != "expunged 201" || got[501] != "expunged 1199" {
			t.Errorf("%d events, from %q to %q; want those of the newest 1000", len(got), got[:min(1, len(got))], got[max(0, len(got)-2):])
		}
	})
}

// TestFlagsOfAnother holds the answer of a server that tells of a change,
// without the UID, in the middle of our own FETCH.
func TestFlagsOfAnother(t *testing.T) {
	onTwoKinds(t, func(t *testing.T, caps string) {
		s, m := newServer("a", "b", "c"), &memory{}
		s.caps = caps
		look(t, s, m)
		m.take()
		s.deliver("d")
		s.hook = once("FETCH", func(c *talk, _, _ string) bool {
			s.flag(2, `\Seen`)
			c.send(`* 2 FETCH (FLAGS (\Seen))`)
			return false
		})
		look(t, s, m)
		m.want(t, "mails", "received 4", `flags 2 \Seen`)
	})
}

// TestFlagsWithoutUID holds that one who never says the UID is not believed.
func TestFlagsWithoutUID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a", "b"), &memory{}
		look(t, s, m)
		s.deliver("c")
		s.hook = answers("FETCH", "* 3 FETCH (FLAGS ())\r\nTAG OK done")
		if err := start(t, s, newRunner(s, m)).fails(); !strings.Contains(err.Error(), "UID") {
			t.Errorf("Run = %v, want an error about the UID", err)
		}
		if n := s.count("FETCH"); n > 10 {
			t.Errorf("it asks %d times", n)
		}
	})
}

// TestHeadOfAnother holds that a change told in the middle of the heads, with
// its UID, is not taken for a mail without head.
func TestHeadOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a"), &memory{}
		look(t, s, m)
		m.take()
		s.deliver("b")
		s.deliver("c")
		s.hook = once("UID FETCH", func(c *talk, _, _ string) bool {
			c.send(`* 3 FETCH (UID 3 FLAGS (\Seen) MODSEQ (99))`)
			return false
		})
		look(t, s, m)
		var got []string
		for _, b := range m.take() {
			for _, e := range b.Events {
				got = append(got, e.Subject)
			}
		}
		if diff := cmp.Diff([]string{"b", "c"}, got); diff != "" {
			t.Errorf("subjects (-want +got):\n%s", diff)
		}
	})
}

func TestExpunged(t *testing.T) {
	onEachKind(t, func(t *testing.T, caps string) {
		s, m := newServer("a", "b", "c", "d", "e"), &memory{}
		s.caps = caps
		w := settled(t, s, m)
		s.expunge(2)
		w.settle()
		m.want(t, "one", "expunged 2")
		s.expunge(1, 5)
		w.settle()
		m.want(t, "two", "expunged 1", "expunged 5")
		s.deliver("f")
		w.settle()
		s.flag(4, `\Seen`)
		w.settle()
		m.want(t, "then", "received 6", `flags 4 \Seen`)
		w.stop()
		s.expunge(6)
		look(t, s, m)
		m.want(t, "while away", "expunged 6")
	})
}

// TestExpungedUnknown holds that of older mails than are kept nothing is told.
func TestExpungedUnknown(t *testing.T) {
	onTwoKinds(t, func(t *testing.T, caps string) {
		s, m := newServer(), &memory{}
		s.caps = caps
		for range 1100 {
			s.deliver("n")
		}
		w := settled(t, s, m)
		s.expunge(5, 50, 100)
		w.settle()
		m.want(t, "older mails")
		s.expunge(101, 1000)
		w.settle()
		m.want(t, "of the newest", "expunged 101", "expunged 1000")
		w.stop()
		s.expunge(6, 1001)
		look(t, s, m)
		m.want(t, "while away", "expunged 1001")
	})
}

// TestOlderMailsHaveTheirTurn holds that the flags of the newest mails are
// compared, even of those that were not among them before.
func TestOlderMailsHaveTheirTurn(t *testing.T) {
	onTwoKinds(t, func(t *testing.T, caps string) {
		s, m := newServer(), &memory{}
		s.caps = caps
		for range 1010 {
			s.deliver("n")
		}
		w := settled(t, s, m)
		s.expunge(1006, 1007, 1008, 1009, 1010)
		s.flag(5, `\Flagged`) // it was not known then
		w.settle()
		m.want(t, "the newest", "expunged 1006", "expunged 1007", "expunged 1008", "expunged 1009", "expunged 1010")
		s.flag(5, `\Seen`)
		s.flag(6, `\Seen`)
		s.expunge(7)
		w.settle()
		m.want(t, "older ones", `flags 6 \Seen`, "expunged 7")
		s.expunge(s.deliver("n"))
		s.flag(5)
		w.settle()
		w.stop()
		m.want(t, "one more", "flags 5")
		look(t, s, m)
		m.want(t, "told already")
	})
}

// TestWindowFillsUp holds that older mails take the places of those that have gone.
func TestWindowFillsUp(t *testing.T) {
	onTwoKinds(t, func(t *testing.T, caps string) {
		s, m := newServer(), &memory{}
		s.caps = caps
		for range 1500 {
			s.deliver("n")
		}
		w := start(t, s, newRunner(s, m))
		w.settle()
		for uid := uint32(701); uid <= 1500; uid++ {
			s.expunge(uid)
		}
		w.settle()
		m.take()
		s.flag(300, `\Seen`)
		w.settle()
		m.want(t, "one that was beyond the window", `flags 300 \Seen`)
	})
}

// TestNothingIsAnswered holds a server that counts mails and tells none.
func TestNothingIsAnswered(t *testing.T) {
	onTwoKinds(t, func(t *testing.T, caps string) {
		s, m := newServer(), &memory{}
		s.caps = caps
		for range 1500 {
			s.deliver("n")
		}
		look(t, s, m)
		m.take()
		s.expunge(1400)
		s.hook = answers("FETCH", "TAG OK done")
		look(t, s, m)
		m.want(t, "nothing is known of any")
		s.hook = nil
		s.deliver("new")
		s.expunge(1401)
		look(t, s, m)
		m.want(t, "then", "received 1501", "expunged 1400", "expunged 1401")
	})
}

func TestReset(t *testing.T) {
	onEachKind(t, func(t *testing.T, caps string) {
		s, m := newServer("a", "b", "c"), &memory{}
		s.caps = caps
		look(t, s, m)
		m.take()
		s.change(func() { // the folder was made anew
			s.validity, s.next, s.mails, s.modseq = 8, 1, nil, 1
		})
		s.deliver("x")
		s.deliver("y")
		r := newRunner(s, m)
		r.Backfill = 10 // for the first look alone
		w := start(t, s, r)
		w.settle()
		batches := m.take()
		if len(batches) == 0 || len(batches[0].Events) != 1 {
			t.Fatalf("batches = %+v, want one event", batches)
		}
		if got, want := string(batches[0].Events[0].Data), `{"account":"alice","folder":"INBOX","uidvalidity":8,"unseen":2,"was":7,"count":2}`; got != want {
			t.Errorf("data = %s, want %s", got, want)
		}
		for _, b := range batches[1:] {
			if len(b.Events) > 0 {
				t.Errorf("then %+v", b.Events)
			}
		}
		s.deliver("z")
		s.flag(1, `\Seen`)
		w.settle()
		w.stop()
		m.want(t, "then", "received 3", `flags 1 \Seen`)
		look(t, s, m)
		m.want(t, "told already")
	})
}

// TestModseqBackwards holds a folder that was restored from a copy.
func TestModseqBackwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a", "b", "c"), &memory{}
		for range 100 {
			s.flag(3, "$x")
		}
		look(t, s, m)
		m.take()
		s.change(func() {
			s.modseq = 5
			for i, stored := range s.mails {
				stored.modseq = uint64(i + 1)
			}
			s.mails[0].flags = []string{`\Seen`}
		})
		w := start(t, s, newRunner(s, m))
		w.settle()
		m.want(t, "at once", `flags 1 \Seen`)
		s.flag(2, `\Seen`)
		w.settle()
		m.want(t, "while connected", `flags 2 \Seen`)
		s.deliver("d")
		w.settle()
		m.want(t, "a mail", "received 4")
		w.stop()
		s.flag(2)
		look(t, s, m)
		m.want(t, "while away", "flags 2")
	})
}

// TestNumbersComeAndGo holds a server that numbers changes at one time, and
// not at another.
func TestNumbersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a", "b", "c"), &memory{}
		for i, caps := range []string{allCaps, idleCaps, allCaps, bareCaps, idleCaps + " CONDSTORE"} {
			s.caps = caps
			look(t, s, m)
			m.take()
			flags := []string{`\Seen`}[:i%2]
			s.flag(2, flags...)
			look(t, s, m)
			var want []string
			if i > 0 {
				want = []string{strings.TrimSpace("flags 2 " + strings.Join(flags, ""))}
			}
			m.want(t, caps, want...)
			s.flag(3, append([]string{`\Flagged`}, flags...)...)
			w := settled(t, s, m)
			s.flag(1, flags...)
			w.settle()
			w.stop()
			if i > 0 {
				m.want(t, caps+", connected", strings.TrimSpace("flags 1 "+strings.Join(flags, "")))
			}
		}
	})
}

func TestNoModseq(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a", "b"), &memory{}
		s.hook = func(c *talk, tag, verb, args string) bool {
			if verb == "EXAMINE" {
				c.examine(tag, strings.TrimSuffix(args, " (CONDSTORE)")) // as if the folder had none
				return true
			}
			return false
		}
		w := settled(t, s, m)
		s.flag(1, `\Seen`)
		s.deliver("c")
		w.settle()
		w.stop()
		m.want(t, "news", "received 3", `flags 1 \Seen`)
	})
}

func TestWithoutUIDValidity(t *testing.T) {
	tests := []string{"* 2 EXISTS\r\n* OK [UIDVALIDITY 0] none\r\nTAG OK done", "* 2 EXISTS\r\nTAG OK done"}
	for _, answer := range tests {
		synctest.Test(t, func(t *testing.T) {
			s, m := newServer("a", "b"), &memory{}
			s.hook = answers("EXAMINE", answer)
			err := start(t, s, newRunner(s, m)).fails()
			if parked := new(*source.ParkError); !errors.As(err, parked) || !strings.Contains(err.Error(), "UIDVALIDITY") {
				t.Errorf("Run = %v, want it parked because of UIDVALIDITY", err)
			}
			if len(m.take()) != 0 {
				t.Error("something was published")
			}
		})
	}
}

func TestWithoutUIDNext(t *testing.T) {
	for _, subjects := range [][]string{nil, {"a", "b", "c"}} {
		onEachKind(t, func(t *testing.T, caps string) {
			s, m := newServer(subjects...), &memory{}
			s.caps, s.noNext = caps, true
			w := start(t, s, newRunner(s, m))
			w.settle()
			m.want(t, "first look")
			uid := s.deliver("d")
			w.settle()
			w.stop()
			m.want(t, "a mail", received(uid, uid))
			s.deliver("e")
			look(t, s, m)
			m.want(t, "while away", received(uid+1, uid+1))
		})
	}
}

// TestUIDNextTooLow holds that what is there is not news, whatever the server
// says of the next UID.
func TestUIDNextTooLow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a", "b", "c"), &memory{}
		s.hook = once("EXAMINE", func(c *talk, tag, args string) bool {
			s.change(func() { s.next = 1 })
			c.examine(tag, args)
			s.change(func() { s.next = 4 })
			return true
		})
		w := start(t, s, newRunner(s, m))
		w.settle()
		s.deliver("d")
		w.settle()
		w.stop()
		m.want(t, "news", "received 4")
	})
}

// TestUnreadableMail holds a mail whose head the server refuses: it is told
// without, and does not hide the others.
func TestUnreadableMail(t *testing.T) {
	onTwoKinds(t, func(t *testing.T, caps string) {
		s, m := newServer("a"), &memory{}
		s.caps = caps
		look(t, s, m)
		m.take()
		s.deliver("b")
		s.add(&stored{head: "Subject: bad\r\n\r\n", broken: true})
		for range 60 {
			s.deliver("c")
		}
		look(t, s, m)
		var got []string
		for _, b := range m.take() {
			for _, e := range b.Events {
				got = append(got, e.Subject)
				var data struct{ From, To, Flags []any }
				if err := json.Unmarshal(e.Data, &data); err != nil || data.From == nil || data.To == nil || data.Flags == nil {
					t.Errorf("data = %s, %v", e.Data, err)
				}
			}
		}
		want := append([]string{"b", ""}, strings.Fields(strings.Repeat("c ", 60))...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("subjects (-want +got):\n%s", diff)
		}
		look(t, s, m)
		m.want(t, "told already")
	})
}

// TestMailVanishes holds one that goes between the look and its head.
func TestMailVanishes(t *testing.T) {
	onEachKind(t, func(t *testing.T, caps string) {
		s, m := newServer("a"), &memory{}
		s.caps = caps
		look(t, s, m)
		m.take()
		for _, subject := range []string{"b", "c", "d"} {
			s.deliver(subject)
		}
		s.hook = once("UID FETCH", func(*talk, string, string) bool {
			s.expunge(3)
			return false
		})
		w := start(t, s, newRunner(s, m))
		w.settle()
		s.deliver("e")
		w.settle()
		w.stop()
		got := strings.Join(m.news(), ", ")
		if want := "received 2, received 4, expunged 3, received 5"; got != want {
			t.Errorf("news: %s; want %s", got, want)
		}
	})
}

// TestMailComesDuringLook holds one that comes while the folder is looked at,
// at each command in turn.
func TestMailComesDuringLook(t *testing.T) {
	onEachKind(t, func(t *testing.T, caps string) {
		for at := 1; ; at++ {
			s, m := newServer("a", "b", "c"), &memory{}
			s.caps = caps
			look(t, s, m)
			m.take()
			s.deliver("d")
			var n atomic.Int32
			s.hook = func(*talk, string, string, string) bool {
				if n.Add(1) == int32(at) {
					s.deliver("e")
					s.flag(1, `\Flagged`)
					s.expunge(2)
				}
				return false
			}
			w := start(t, s, newRunner(s, m))
			time.Sleep(time.Second)
			if n.Load() < int32(at) {
				w.stop()
				return
			}
			w.settle()
			w.stop()
			got := m.each()
			slices.Sort(got)
			if diff := cmp.Diff([]string{"expunged 2", `flags 1 \Flagged`, "received 4", "received 5"}, got); diff != "" {
				t.Errorf("at command %d (-want +got):\n%s", at, diff)
			}
			look(t, s, m)
			m.want(t, fmt.Sprintf("at command %d: told later", at))
		}
	})
}

// TestSameCheckpointIsNotWritten holds that a look at what is known costs no write.
func TestSameCheckpointIsNotWritten(t *testing.T) {
	onEachKind(t, func(t *testing.T, caps string) {
		s, m := newServer("a"), &memory{}
		s.caps = caps
		look(t, s, m)
		m.take()
		look(t, s, m)
		if batches := m.take(); len(batches) != 0 {
			t.Errorf("%d batches where nothing has changed", len(batches))
		}
		s.deliver("b")
		s.flag(1, `\Seen`)
		look(t, s, m)
		m.want(t, "news", "received 2", `flags 1 \Seen`)
		look(t, s, m)
		if batches := m.take(); len(batches) != 0 {
			t.Errorf("%d batches where nothing has changed since", len(batches))
		}
	})
}

// TestAsksForChangesOnly holds what a look costs where changes are numbered.
func TestAsksForChangesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a", "b"), &memory{}
		w := start(t, s, newRunner(s, m))
		w.settle()
		s.commands()
		s.deliver("c")
		w.settle()
		w.stop()
		var verbs []string
		for _, command := range s.commands() {
			verb, args, _ := strings.Cut(strings.TrimPrefix(command, "UID "), " ")
			verbs = append(verbs, verb)
			if verb == "FETCH" && !strings.HasPrefix(command, "UID") && (!strings.HasPrefix(args, "1:3 (") || !strings.HasSuffix(args, ") (CHANGEDSINCE 3)")) {
				t.Errorf("it asks for %s", args)
			}
		}
		if diff := cmp.Diff([]string{"FETCH", "SEARCH", "FETCH", "IDLE"}, verbs); diff != "" {
			t.Errorf("commands of a look (-want +got):\n%s", diff)
		}
	})
}
