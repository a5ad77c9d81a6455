package centrifuge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/bus"
	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
)

func (c *client) recover(channel string, at event.Cursor) subscribed {
	c.t.Helper()
	reply, _ := c.do(`"subscribe":{"channel":%q,"recover":true,"offset":%d,"epoch":%q}`, channel, at.Seq, at.Epoch)
	if reply.Error.Code != 0 || !reply.Subscribe.WasRecovering {
		c.t.Errorf("recovering answered %+v", reply)
	}
	return reply.Subscribe
}

func numbersOf(t *testing.T, publications []publication) (got []int) {
	t.Helper()
	for _, p := range publications {
		got = append(got, number(t, p))
	}
	return got
}

func TestRecover(t *testing.T) {
	each(t, func(t *testing.T, d dial) {
		f := newFixture(t, push.Limits{})
		at := f.publish(t, "r/a", 0, 0)
		f.publish(t, "r/a", 1, 1000)
		head := f.publish(t, "other", 1, 1)
		c := f.connect(t, d, "")

		got := c.recover("r/*", at)
		if diff := cmp.Diff(sequence(1, 1000), numbersOf(t, got.Publications)); !got.Recovered || diff != "" {
			t.Errorf("recovered %v: %s", got.Recovered, diff)
		}
		if got.Offset != at.Seq || got.Publications[999].Offset != at.Seq+1000 {
			t.Errorf("offsets %d and %d, want where it recovers from, and to", got.Offset, got.Publications[999].Offset)
		}
		if got := c.recover("r/a", event.Cursor{Epoch: at.Epoch, Seq: at.Seq + 1000}); !got.Recovered || got.Publications != nil || got.Offset != head.Seq {
			t.Errorf("with nothing missed: %+v, want the head", got)
		}
		c.do(`"unsubscribe":{"channel":"r/*"}`)
		c.do(`"unsubscribe":{"channel":"r/a"}`)

		f.publish(t, "r/a", 1001, 1001)
		for name, cursor := range map[string]event.Cursor{
			"too many":      at,
			"another epoch": {Epoch: "zzzz", Seq: at.Seq},
			"the future":    {Epoch: at.Epoch, Seq: at.Seq + 9999},
		} {
			got := c.recover("r/a", cursor)
			if got.Recovered || !got.Recoverable || got.Publications != nil || got.Offset != f.bus.Head().Seq {
				t.Errorf("%s: %+v, want not recovered, at the head", name, got)
			}
			f.publish(t, "r/a", 5, 5)
			if got := c.numbers(1); got[0] != 5 {
				t.Errorf("%s: got %v after it", name, got)
			}
			c.do(`"unsubscribe":{"channel":"r/a"}`)
		}
		c.fails(112, `"subscribe":{"channel":"r/a","recover":true,"offset":1,"epoch":"zzzz","flag":3}`)
		if m, _ := c.do(`"subscribe":{"channel":"r/a"}`); m.Error.Code != 0 {
			t.Errorf("subscribed with %+v", m)
		}
	})
}

func TestRecoverTooMuch(t *testing.T) {
	f := newFixture(t, push.Limits{})
	at := f.publish(t, "r/a", 0, 0)
	for range 6 {
		big := event.Event{Source: "/test", Type: "test", Topic: "r/a", Data: []byte(`"` + strings.Repeat("x", 200_000) + `"`)}
		if _, err := f.bus.Publish(f.ctx, event.Batch{Events: []event.Event{big}}); err != nil {
			t.Fatal(err)
		}
	}
	c := f.connect(t, dialWebSocket, "")
	if got := c.recover("r/a", at); got.Recovered || got.Publications != nil {
		t.Errorf("recovered %d events of 1.2 MB, want none", len(got.Publications))
	}
	c.do(`"unsubscribe":{"channel":"r/a"}`)
	at.Seq += 2
	if got := c.recover("r/a", at); !got.Recovered || len(got.Publications) != 4 {
		t.Errorf("recovered %d events of 0.8 MB, want 4", len(got.Publications))
	}
}

func TestRecoverGone(t *testing.T) {
	f := newFixture(t, push.Limits{})
	at := f.publish(t, "short/a", 1, 1)
	f.publish(t, "short/a", 2, 9)
	f.await(t, "the purge", func() bool {
		_, err := f.bus.Read(f.ctx, event.Query{Patterns: []event.Pattern{"short/a"}, After: at})
		return err != nil
	})
	c := f.connect(t, dialWebSocket, "")
	if got := c.recover("short/a", at); got.Recovered || got.Publications != nil || got.Offset != f.bus.Head().Seq {
		t.Errorf("recovered %+v, want not", got)
	}
	f.publish(t, "short/a", 10, 10)
	if got := c.numbers(1); got[0] != 10 {
		t.Errorf("got %v", got)
	}
}

// Many replies of a megabyte do not pile up for a client that takes none.
func TestRepliesWait(t *testing.T) {
	f := newFixture(t, push.Limits{})
	f.publish(t, "r/a", 0, 0)
	for range 4 {
		big := event.Event{Source: "/test", Type: "test", Topic: "r/a", Data: []byte(`"` + strings.Repeat("x", 240_000) + `"`)}
		if _, err := f.bus.Publish(f.ctx, event.Batch{Events: []event.Event{big}}); err != nil {
			t.Fatal(err)
		}
	}
	c := f.connect(t, dialWebSocket, "")
	var lines []string
	for n := range 20 {
		lines = append(lines, fmt.Sprintf(`{"id":%d,"history":{"channel":"r/a","limit":100}}`, n+10))
	}
	if err := c.write(strings.Join(lines, "\n")); err != nil {
		t.Fatal(err)
	}
	most := 0
	for n := range 20 {
		m := c.must()
		if m.ID != uint32(n+10) || len(m.History.Publications) != 5 {
			t.Fatalf("reply %d is %+v", n, m)
		}
		most = max(most, f.queued())
	}
	if most > 4<<20 {
		t.Errorf("%d bytes waited, want a few megabytes at the most", most)
	}
}

// A server-side subscription is one of the token's, and recovers by the connect request.
func TestServerSide(t *testing.T) {
	each(t, func(t *testing.T, d dial) {
		f := newFixture(t, push.Limits{})
		at := f.publish(t, "secret/in", 1, 1)
		token := signed(fmt.Sprintf(`{"sub":"alice","exp":%d,"channels":["secret/in","secret/out","secret/x/*"]}`, time.Now().Add(time.Hour).Unix()))
		c, m := f.connectWith(t, d, fmt.Sprintf(`{"token":%q}`, token))
		want := subscribed{Recoverable: true, Positioned: true, Epoch: at.Epoch, Offset: at.Seq}
		if diff := cmp.Diff(map[string]subscribed{"secret/in": want, "secret/out": want}, m.Connect.Subs); diff != "" {
			t.Fatal(diff)
		}
		f.publish(t, "secret/in", 2, 2)
		if got := c.numbers(1); got[0] != 2 {
			t.Errorf("got %v", got)
		}
		c.fails(105, `"subscribe":{"channel":"secret/in"}`)
		c2, m := f.connectWith(t, d, fmt.Sprintf(`{"token":%q,"subs":{"secret/in":{"recover":true,"offset":%d,"epoch":%q},"secret/not/mine":{}}}`, token, at.Seq, at.Epoch))
		in := m.Connect.Subs["secret/in"]
		if !in.Recovered || !in.WasRecovering || len(m.Connect.Subs) != 2 || !cmp.Equal(numbersOf(t, in.Publications), []int{2}) {
			t.Errorf("connected with %+v", m.Connect.Subs)
		}
		f.publish(t, "secret/in", 3, 3)
		if got := c2.numbers(1); got[0] != 3 {
			t.Errorf("got %v", got)
		}
	})
}

// Clients that are cut at random see every event once and in order, whether
// they subscribe themselves or are subscribed by the server.
func TestNoGapNoDuplicate(t *testing.T) {
	const events, clients = 200, 24
	f := newFixture(t, push.Limits{Queue: 2000})
	at := f.bus.Head()
	token := signed(fmt.Sprintf(`{"sub":"alice","exp":%d,"channels":["chaos/a"]}`, time.Now().Add(time.Hour).Unix()))
	var all sync.WaitGroup
	names := []string{"websocket", "http_stream", "sse"}
	for n := range clients {
		all.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(n)))
			fo := follower{at: at, pattern: []string{"chaos/a", "chaos/*"}[n%2]}
			if n%4 == 0 {
				fo.token = token
			}
			for len(fo.got) < events && !t.Failed() {
				fo.follow(t, f, transports[names[r.IntN(3)]], min(events, len(fo.got)+1+r.IntN(events/4)))
			}
			if diff := cmp.Diff(sequence(0, events-1), fo.got); diff != "" {
				t.Errorf("client %d: %s", n, diff)
			}
		})
	}
	for n := 0; n < events; n += 2 {
		f.publish(t, "chaos/a", n, n+1)
		f.publish(t, "elsewhere", 0, 0) // moves the head alone
	}
	all.Wait()
}

type follower struct {
	at      event.Cursor
	pattern string
	token   string // of a server-side subscription
	got     []int
}

// follow takes events up to so many in all, as centrifuge-js does.
func (fo *follower) follow(t *testing.T, f *fixture, d dial, upTo int) {
	ctx, cut := context.WithCancel(f.ctx)
	defer cut()
	g := *f
	g.ctx = ctx
	position := fmt.Sprintf(`"recover":true,"offset":%d,"epoch":%q`, fo.at.Seq, fo.at.Epoch)
	var sub subscribed
	var c *client
	if fo.token != "" {
		var m message
		c, m = g.connectWith(t, d, fmt.Sprintf(`{"token":%q,"subs":{"chaos/a":{%s}}}`, fo.token, position))
		sub = m.Connect.Subs["chaos/a"]
	} else {
		c = g.connect(t, d, "")
		reply, early := c.do(`"subscribe":{"channel":%q,%s}`, fo.pattern, position)
		if len(early) > 0 && early[0].Push.Channel == fo.pattern {
			t.Errorf("%+v came before the reply", early[0])
		}
		sub = reply.Subscribe
	}
	if !sub.Recovered {
		t.Errorf("not recovered: %+v", sub)
		return
	}
	fo.at.Seq = sub.Offset
	for _, p := range sub.Publications {
		fo.take(t, p)
	}
	for len(fo.got) < upTo {
		if m := c.must(); m.Push.Pub != nil && (fo.token != "" || m.Push.Channel == fo.pattern) {
			fo.take(t, *m.Push.Pub)
		}
	}
}

func (fo *follower) take(t *testing.T, p publication) {
	if p.Offset <= fo.at.Seq {
		t.Errorf("%s at %d came after %d", p.Data, p.Offset, fo.at.Seq)
	}
	fo.at.Seq = p.Offset
	var n int
	if err := json.Unmarshal(p.Data, &n); err != nil {
		t.Error(err)
	}
	fo.got = append(fo.got, n)
}

// racingLog has something happen right after the head was read.
type racingLog struct {
	*bus.Bus
	race *atomic.Pointer[func()]
}

func (l racingLog) Head() event.Cursor {
	head := l.Bus.Head()
	if race := l.race.Swap(nil); race != nil {
		(*race)()
	}
	return head
}

// An event that comes while a client subscribes is past the offset that it is
// told, or sent to it.
func TestSubscribingMissesNothing(t *testing.T) {
	var race atomic.Pointer[func()]
	f := newFixtureOn(t, push.Limits{}, func(b *bus.Bus) event.Reader { return racingLog{b, &race} })
	c := f.connect(t, dialWebSocket, "")
	c.do(`"subscribe":{"channel":"first"}`)
	f.publish(t, "first", 1, 1)
	c.numbers(1) // so its loop knows where the log is
	publish := func() { f.publish(t, "a", 2, 2) }
	race.Store(&publish)
	reply, pushes := c.do(`"subscribe":{"channel":"a"}`)
	if len(pushes) > 0 {
		t.Errorf("%+v came before the reply", pushes)
	}
	if reply.Subscribe.Offset < f.bus.Head().Seq {
		if got := c.numbers(1); got[0] != 2 {
			t.Errorf("got %v, want 2", got)
		}
	}
}

// An event that comes between two server-side subscriptions comes after the
// reply that tells of them: before it the client would not know the channel.
func TestServerSideMissesNothing(t *testing.T) {
	var race atomic.Pointer[func()]
	f := newFixtureOn(t, push.Limits{}, func(b *bus.Bus) event.Reader { return racingLog{b, &race} })
	at := f.publish(t, "secret/out", 1, 1)
	token := signed(fmt.Sprintf(`{"sub":"alice","exp":%d,"channels":["secret/in","secret/out"]}`, time.Now().Add(time.Hour).Unix()))
	for n := range 8 { // on both loops, as they come
		publish := func() { f.publish(t, "secret/in", n, n) }
		race.Store(&publish)
		c, m := f.connectWith(t, dialWebSocket, fmt.Sprintf(`{"token":%q,"subs":{"secret/out":{"recover":true,"offset":%d,"epoch":%q}}}`, token, at.Seq, at.Epoch))
		if m.ID != 1 {
			t.Fatalf("%+v came before the reply", m)
		}
		if m.Connect.Subs["secret/in"].Offset < f.bus.Head().Seq {
			if got := c.numbers(1); got[0] != n {
				t.Errorf("got %v, want %d", got, n)
			}
		}
	}
}
