package mailbox_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPolling(t *testing.T) {
	tests := []struct {
		every, want time.Duration
	}{
		{0, time.Minute},
		{time.Nanosecond, time.Second},
		{10 * time.Second, 10 * time.Second},
		{15 * time.Minute, 15 * time.Minute}, // longer than a server may be silent
	}
	for _, caps := range []string{bareCaps, bareCaps + " CONDSTORE"} {
		for _, tt := range tests {
			t.Run(fmt.Sprint(caps, " every ", tt.every), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, m := newServer("a", "b"), &memory{}
					s.caps = caps
					r := newRunner(s, m)
					r.Every = tt.every
					w := start(t, s, r)
					time.Sleep(tt.want / 2)
					m.take()
					w.reported()
					s.commands()
					before := time.Now()
					time.Sleep(10 * tt.want)

					reports := w.reported()
					if len(reports) != 10 || reports[9].Before(before.Add(10*tt.want)) || reports[9].After(before.Add(11*tt.want)) {
						t.Errorf("%d reports, the last of a look at %v; want 10, and the next look in less than %v", len(reports), reports, tt.want)
					}
					if commands := s.commands(); len(commands) != 20 || !strings.HasPrefix(commands[19], "STATUS") {
						t.Errorf("commands = %q, want ten times NOOP and STATUS", commands)
					}
					s.deliver("c")
					time.Sleep(tt.want)
					m.want(t, "a mail", "received 3")
					s.flag(2, `\Flagged`) // nothing that STATUS counts
					time.Sleep(tt.want)
					m.want(t, "flags", `flags 2 \Flagged`)
					s.expunge(s.deliver("d"), 2)
					time.Sleep(tt.want)
					m.want(t, "gone", "expunged 2")
					w.stop()
				})
			})
		}
	}
}

// TestSilentPolling holds a server that tells nothing when it is asked whether
// there is something: STATUS alone says so. A change between the look and the
// first STATUS is noticed, too.
func TestSilentPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a", "b", "c"), &memory{}
		s.caps = bareCaps
		s.hook = answers("NOOP", "TAG OK nothing")
		w := settled(t, s, m)
		s.flag(2, `\Seen`)
		time.Sleep(time.Minute + time.Second)
		m.want(t, "while connected", `flags 2 \Seen`)
		w.stop()

		first := once("STATUS", func(*talk, string, string) bool {
			s.flag(3, `\Seen`)
			return false
		})
		silent := s.hook
		s.hook = func(c *talk, tag, verb, args string) bool {
			return silent(c, tag, verb, args) || first(c, tag, verb, args)
		}
		look(t, s, m)
		m.want(t, "after the look", `flags 3 \Seen`)
	})
}

// TestIdleRefused holds a server that says it can tell, and then does not.
func TestIdleRefused(t *testing.T) {
	for _, answer := range []string{"TAG NO not now", "TAG BAD what?"} {
		synctest.Test(t, func(t *testing.T) {
			s, m := newServer("a"), &memory{}
			s.hook = answers("IDLE", answer)
			w := settled(t, s, m)
			if reports := w.reported(); len(reports) < 2 || !reports[0].IsZero() || !reports[len(reports)-1].After(time.Now()) {
				t.Errorf("%s: reports = %v, want the last with the next look", answer, reports)
			}
			s.deliver("b")
			s.flag(1, `\Flagged`)
			time.Sleep(time.Minute + time.Second)
			m.want(t, answer, "received 2", `flags 1 \Flagged`)
			if n := s.count("IDLE"); n != 1 {
				t.Errorf("%s: it tries %d times", answer, n)
			}
			w.stop()
		})
	}
}

// TestIdle holds that one who is told costs little, and is told soon.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a"), &memory{}
		w := start(t, s, newRunner(s, m))
		time.Sleep(time.Second)
		synctest.Wait()
		m.take()
		s.commands()
		if diff := cmp.Diff([]time.Time{{}}, w.reported()); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
		time.Sleep(time.Hour)
		if diff := cmp.Diff(strings.Split(strings.Repeat("IDLE ", 6), " ")[:6], s.commands()); diff != "" {
			t.Errorf("an hour's commands (-want +got):\n%s", diff)
		}
		for i := range 3 {
			s.deliver("b")
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			m.want(t, "at once", fmt.Sprintf("received %d", i+2))
		}
		w.stop()
	})
}

// TestToldForEver holds that a server that never stops telling costs no more
// than a look every 50 ms.
func TestToldForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a", "b"), &memory{}
		w := start(t, s, newRunner(s, m))
		w.settle()
		s.commands()
		talk := s.talks[0]
		const seconds = 10
		for range seconds * 1000 {
			talk.send("* 2 EXISTS")
			time.Sleep(time.Millisecond)
		}
		if n := s.count("FETCH"); n < seconds || n > 21*seconds {
			t.Errorf("%d looks in %d seconds", n, seconds)
		}
		s.deliver("c")
		w.settle()
		m.take()
		w.stop()
	})
}

// TestFlood holds that one who says too much is not listened to.
func TestFlood(t *testing.T) {
	tests := []struct{ name, says, after string }{
		{"lines", strings.Repeat("* 2 EXISTS\r\n", 50_000), "IDLE STATUS"},
		{"literals", strings.Repeat("* 1 FETCH (UID 1 BODY[] {1}\r\nx)\r\n", 21_000), "FETCH"},
		{"a line", "* OK " + strings.Repeat("x", 100_000), "IDLE FETCH STATUS EXAMINE AUTHENTICATE"},
		{"a literal", "* 1 FETCH (UID 1 BODY[] {4294967295}\r\n", "IDLE FETCH STATUS EXAMINE AUTHENTICATE"},
		{"lists", "* 1 FETCH (BODYSTRUCTURE " + strings.Repeat("(", 50_000), "IDLE FETCH STATUS EXAMINE AUTHENTICATE"},
		{"searches", "* SEARCH" + strings.Repeat(" 1", 20_000) + "\r\n", "IDLE FETCH STATUS EXAMINE AUTHENTICATE"},
		{"a list among capabilities", "* CAPABILITY (\r\n", "IDLE FETCH STATUS EXAMINE AUTHENTICATE"},
	}
	for _, tt := range tests {
		for _, verb := range strings.Fields(tt.after) {
			t.Run(tt.name+" after "+verb, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s, m := newServer("a"), &memory{}
					s.caps = bareCaps
					if verb == "IDLE" {
						s.caps = idleCaps
					}
					s.hook = once(verb, func(c *talk, _, _ string) bool {
						if verb == "IDLE" {
							c.send("+ idling")
						}
						c.send(tt.says)
						return true
					})
					started := time.Now()
					err := start(t, s, newRunner(s, m)).fails()
					if !strings.Contains(err.Error(), "is not listened to any more") {
						t.Errorf("Run = %v, want what was too much", err)
					}
					if took := time.Since(started); took > time.Second {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}

// TestBodyWhileIdle holds that what nobody asked for blocks nothing.
func TestBodyWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a"), &memory{}
		w := settled(t, s, m)
		for range 100 {
			body := strings.Repeat("x", 10_000)
			s.talks[0].send(fmt.Sprintf("* 1 FETCH (UID 1 FLAGS () BODY[] {%d}\r\n%s BODY[TEXT] {%d}\r\n%s)", len(body), body, len(body), body))
		}
		s.deliver("b")
		w.settle()
		w.stop()
		m.want(t, "a mail", "received 2")
	})
}

// TestOddAnswers holds what servers say that nobody needs.
func TestOddAnswers(t *testing.T) {
	onEachKind(t, func(t *testing.T, caps string) {
		s, m := newServer("a"), &memory{}
		s.caps = caps
		s.hook = func(c *talk, tag, verb, args string) bool {
			switch verb {
			case "EXAMINE":
				c.send(`* LIST () "/" INBOX`, "* OK [MAILBOXID (F1)] id", "* OK [CLOSED] closed", "* OK", "* NO [ALERT] 5\" disk full {5", "* 3 RECENT", "* SEARCH", "* OK [UNSEEN 1] x")
			case "IDLE", "NOOP", "SEARCH":
				c.send("* OK still here", "* OK [ALERT] maintenance at 5", "* FLAGS (\\Seen x)", "* OK [PERMANENTFLAGS (\\*)] x", "* BAD x", "* CAPABILITY IMAP4rev1")
			}
			return false
		}
		w := settled(t, s, m)
		s.deliver("b")
		w.settle()
		w.stop()
		m.want(t, "a mail", "received 2")
	})
}

// TestEnds holds that an error says why, whatever the server does to end it.
func TestEnds(t *testing.T) {
	tests := []struct {
		name, says, want string
		closes           bool
	}{
		{"BYE", "* BYE Autologout; idle for too long\r\n", "the server ended the session: Autologout; idle for too long", true},
		{"BYE and silence", "* BYE shutting down\r\n* SHUTTING DOWN\r\n", "the server ended the session: shutting down", false},
		{"the end", "", "unexpected EOF", true},
		{"the end within a line", "* 5 EXI", "unexpected EOF", true},
		{"an answer that is none", "* SURPRISE me\r\n", `unsupported response type "SURPRISE"`, false},
		{"another protocol", "HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.1", false},
		{"bytes", "\x00\xff\xfe\x01\r\n", "expected", false},
		{"an answer to nobody", "T999 OK done\r\n", `unknown tag "T999"`, false},
		{"a request nobody waits for", "+ Z28=\r\n+ Z28=\r\n+ Z28=\r\n", "unmatched continuation request", false},
		{"a number that is none", "* 99999999999 EXISTS\r\n", "out of range", false},
		{"a long word", "* " + strings.Repeat("X", 50_000) + "\r\n", "unsupported response type", false},
		{"a literal that does not come", "* 1 FETCH (UID 1 BODY[HEADER] {500}\r\nSubj", "EOF", true},
	}
	for _, tt := range tests {
		for _, verb := range []string{"IDLE", "FETCH", "UID FETCH", "SEARCH", "EXAMINE", "AUTHENTICATE"} {
			t.Run(tt.name+" after "+verb, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s, m := newServer("a"), &memory{}
					s.hook = once(verb, func(c *talk, _, _ string) bool {
						if verb == "IDLE" {
							c.send("+ idling")
						}
						_, _ = c.Write([]byte(tt.says))
						if tt.closes {
							_ = c.Close()
						}
						return true
					})
					r := newRunner(s, m)
					r.Backfill = 1
					started := time.Now()
					err := start(t, s, r).fails()
					if !strings.Contains(err.Error(), tt.want) || strings.ContainsAny(err.Error(), "\r\n\x00") || len(err.Error()) > 500 || isParked(err) {
						t.Errorf("Run = %q, want %q", err, tt.want)
					}
					if took := time.Since(started); took > 15*time.Minute {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}

// TestHangs has the server answer no more from each command on, in turn.
func TestHangs(t *testing.T) {
	onEachKind(t, func(t *testing.T, caps string) {
		for at := int32(1); ; at++ {
			s, m := newServer("a"), &memory{}
			s.caps = caps
			var n atomic.Int32
			last := make(chan string, 1)
			s.hook = func(_ *talk, _, verb, _ string) bool {
				i := n.Add(1)
				if i == at {
					last <- verb
				}
				return i >= at
			}
			r := newRunner(s, m)
			r.Backfill = 1
			w := start(t, s, r)
			time.Sleep(time.Second)
			if n.Load() < at {
				w.stop()
				if at < 8 {
					t.Errorf("only %d commands", at-1)
				}
				return
			}
			started := time.Now()
			err := w.fails()
			if took := time.Since(started); took > 3*time.Minute || !strings.Contains(err.Error(), "timeout") {
				t.Errorf("%s is not answered: Run = %v after %v; want a timeout after two minutes", <-last, err, took)
			}
		}
	})
}

// TestHangsWhileIdle has a server or a link die while nobody speaks.
func TestHangsWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer("a"), &memory{}
		var idling atomic.Bool
		s.hook = func(c *talk, _, verb, _ string) bool {
			if verb == "IDLE" {
				c.send("+ idling")
				idling.Store(true)
			}
			return idling.Load() // DONE, too, is not answered
		}
		started := time.Now()
		err := start(t, s, newRunner(s, m)).fails()
		if took := time.Since(started); took > 15*time.Minute || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("Run = %v after %v; want a timeout", err, took)
		}
	})
}

// TestHangsWithinLiteral has a server stop in the middle of a mail's head: the
// answer's end and the deadline are the library's blind spot.
func TestHangsWithinLiteral(t *testing.T) {
	for _, verb := range []string{"UID FETCH", "IDLE"} { // one that is asked for, and one that is not
		synctest.Test(t, func(t *testing.T) {
			s, m := newServer("a"), &memory{}
			s.hook = once(verb, func(c *talk, _, _ string) bool {
				if verb == "IDLE" {
					c.send("+ idling")
				}
				_, _ = c.Write([]byte("* 1 FETCH (UID 1 BODY[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID)]<0> {500}\r\nSubject: a"))
				return true
			})
			r := newRunner(s, m)
			r.Backfill = 1
			started := time.Now()
			err := start(t, s, r).fails()
			if took := time.Since(started); took > 15*time.Minute || !strings.Contains(err.Error(), "timeout") {
				t.Errorf("%s: Run = %v after %v; want a timeout", verb, err, took)
			}
		})
	}
}

// TestCancel ends the context at each command in turn, unanswered, and in the
// middle of an answer.
func TestCancel(t *testing.T) {
	onEachKind(t, func(t *testing.T, caps string) {
		for at := int32(1); ; at++ {
			for _, partial := range []string{"", "* 1 FETCH (UID 1 BODY[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID)]<0> {500}\r\nSubject: a", "+ go on\r\n"} {
				s, m := newServer("a"), &memory{}
				s.caps = caps
				var n atomic.Int32
				s.hook = func(c *talk, _, _, _ string) bool {
					hangs := n.Add(1) == at
					if hangs {
						_, _ = c.Write([]byte(partial))
					}
					return hangs
				}
				r := newRunner(s, m)
				r.Backfill = 1
				w := start(t, s, r)
				time.Sleep(time.Second)
				done := n.Load() < at
				select {
				case <-w.ended: // it does not understand what it got
					s.drop()
				default:
					w.stop()
				}
				if done {
					return
				}
			}
		}
	})
}

// TestCancelledBefore holds a context that ends before the connection is there.
func TestCancelledBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("a")
		r := newRunner(s, &memory{})
		dial := r.Dial
		ctx, cancel := context.WithCancel(t.Context())
		r.Dial = func(_ context.Context, network, address string) (net.Conn, error) {
			cancel()
			return dial(context.Background(), network, address)
		}
		if err := r.Run(ctx, func(time.Time) {}); err != context.Canceled {
			t.Errorf("Run = %v, want %v", err, context.Canceled)
		}
		s.drop()
	})
}
