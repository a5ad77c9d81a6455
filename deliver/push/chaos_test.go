package push_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
)

// Sessions that are cut at random, and resume by cursor on any transport,
// see every event of their patterns once and in order.
func TestNoGapNoDuplicate(t *testing.T) {
	const publishers, events, sessions = 4, 30, 200
	f := newFixture(t, push.Limits{Queue: 600, Heartbeat: 20 * time.Millisecond}) // about two events
	began := f.bus.Head().String()

	var all sync.WaitGroup
	for n := range sessions {
		all.Go(func() {
			r := rand.New(rand.NewPCG(42, uint64(n)))
			s := follower{f: f, random: r, at: began, pattern: "chaos/**", want: publishers * events}
			if n%2 == 0 {
				s.pattern, s.want = fmt.Sprintf("chaos/%d/*", n%publishers), events
			}
			if err := s.follow(); err != nil {
				t.Errorf("session %d on %s, after %d of %d: %v", n, s.pattern, len(s.got), s.want, err)
				return
			}
			s.check(t)
		})
	}
	for p := range publishers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(43, uint64(p)))
			for sent := 0; sent < events; {
				n := min(1+r.IntN(3), events-sent)
				f.publishBatch(t, event.Topic(fmt.Sprintf("chaos/%d/x", p)), sent, sent+n-1)
				sent += n
				f.publishBatch(t, "elsewhere", 0, 0) // moves the head alone
			}
		})
	}
	all.Wait()
}

// follower is a client whose connections do not last.
type follower struct {
	f       *fixture
	random  *rand.Rand
	pattern string
	want    int
	at      string
	got     []message
}

func (s *follower) follow() error {
	for len(s.got) < s.want {
		if s.f.ctx.Err() != nil {
			return s.f.ctx.Err()
		}
		ask := request{topics: []string{s.pattern}, after: s.at}
		if s.random.IntN(3) == 0 {
			if err := s.poll(ask); err != nil {
				return err
			}
			continue
		}
		d := dialSSE
		if s.random.IntN(2) == 0 {
			d = dialWS
		}
		c, err := d(s.f, ask)
		if err != nil {
			return err
		}
		s.take(c, 1+s.random.IntN(60))
		c.close()
	}
	return nil
}

// take takes up to n messages, fewer if the server cuts.
func (s *follower) take(c client, n int) {
	for range n {
		m, err := c.next()
		if err != nil {
			return
		}
		s.at = c.resume()
		if m.Control == "" {
			if s.got = append(s.got, m); len(s.got) == s.want {
				return
			}
		}
	}
}

// poll waits so briefly that events race with the end of the wait.
func (s *follower) poll(ask request) error {
	ask.wait = (time.Duration(s.random.IntN(20)) * time.Millisecond).String()
	etag := ""
	if s.random.IntN(2) == 0 {
		etag = `"` + s.at + `"`
	}
	answer, resp, err := s.f.poll(ask, etag)
	if err != nil || resp.StatusCode == http.StatusNotModified {
		return err
	}
	s.got, s.at = append(s.got, answer.Events...), answer.Cursor
	return nil
}

// check compares with the log.
func (s *follower) check(t *testing.T) {
	q := event.Query{Patterns: []event.Pattern{event.Pattern(s.pattern)}, Limit: 1000}
	page, err := s.f.bus.Read(s.f.ctx, q)
	if err != nil {
		t.Error(err)
		return
	}
	var want, got []string
	for _, r := range page.Records {
		want = append(want, r.Cursor.String())
	}
	for _, m := range s.got {
		got = append(got, m.Cursor)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events of %s (-log +got):\n%s", s.pattern, diff)
	}
}
