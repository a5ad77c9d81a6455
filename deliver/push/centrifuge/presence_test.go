package centrifuge_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
)

// Who is on one loop is seen from the other.
func TestPresence(t *testing.T) {
	each(t, func(t *testing.T, d dial) {
		f := newFixture(t, push.Limits{})
		token := f.token(t, "alice", time.Hour, "a")
		var all []*client
		want := map[string]member{}
		for n := range 8 { // on both loops, as they come
			c := f.connect(t, d, []string{token, ""}[n%2])
			c.do(`"subscribe":{"channel":"quiet/a"}`)
			all = append(all, c)
			want[c.name] = member{c.name, []string{"alice", ""}[n%2]}
		}
		for _, c := range all {
			reply, pushes := c.do(`"presence":{"channel":"quiet/a"}`)
			if diff := cmp.Diff(want, reply.Presence.Presence); diff != "" || len(pushes) > 0 {
				t.Errorf("%s, pushes %v", diff, pushes)
			}
		}
		all[7].do(`"unsubscribe":{"channel":"quiet/a"}`)
		if reply, _ := all[0].do(`"presence_stats":{"channel":"quiet/a"}`); reply.PresenceStats.Clients != 7 || reply.PresenceStats.Users != 2 {
			t.Errorf("%+v, want 7 clients of 2 users", reply.PresenceStats)
		}
		if reply, _ := all[0].do(`"presence":{"channel":"quiet/nobody"}`); len(reply.Presence.Presence) != 0 || reply.Error.Code != 0 {
			t.Errorf("%+v, want nobody", reply)
		}
	})
}

func TestJoinLeave(t *testing.T) {
	f := newFixture(t, push.Limits{})
	alice := f.connect(t, dialWebSocket, "")
	alice.do(`"subscribe":{"channel":"chat/a"}`)
	if m := alice.must(); m.Push.Join == nil || m.Push.Join.Info.Client != alice.name {
		t.Errorf("got %+v, want alice's own joining", m.Push)
	}
	bob, _ := f.connectWith(t, dialStream, fmt.Sprintf(`{"token":%q}`, f.token(t, "bob", time.Hour, "a")))
	bob.do(`"subscribe":{"channel":"chat/a"}`)
	if m := alice.must().Push; m.Channel != "chat/a" || m.Join == nil || m.Join.Info != (member{bob.name, "bob"}) {
		t.Errorf("got %+v, want bob's joining", m)
	}
	bob.do(`"unsubscribe":{"channel":"chat/a"}`)
	if m := alice.must().Push; m.Leave == nil || m.Leave.Info != (member{bob.name, "bob"}) {
		t.Errorf("got %+v, want bob's leaving", m)
	}
	bob.do(`"subscribe":{"channel":"chat/a"}`)
	alice.must()
	if err := bob.write("nonsense"); err != nil { // sent away
		t.Fatal(err)
	}
	if m := alice.must().Push; m.Leave == nil {
		t.Errorf("got %+v, want bob's leaving", m)
	}
	if reply, _ := alice.do(`"presence":{"channel":"chat/a"}`); len(reply.Presence.Presence) != 1 {
		t.Errorf("got %+v, want alice alone", reply.Presence)
	}
	for range 5 {
		other := f.connect(t, dialWebSocket, "")
		other.do(`"subscribe":{"channel":"quiet/a"}`)
	}
	alice.quiet()
}

// A client that takes nothing of what cannot be had again is sent away; one
// that takes nothing of what can catches up.
func TestSlow(t *testing.T) {
	f := newFixture(t, push.Limits{Queue: 64 << 10})
	slow := f.connect(t, dialStream, "")
	slow.do(`"subscribe":{"channel":"pointer/a"}`)
	patient := f.connect(t, dialStream, "")
	reply, _ := patient.do(`"subscribe":{"channel":"kept/a"}`)
	data := make([]byte, 30_000)
	publish := func(topic event.Topic, n int) {
		e := event.Event{Source: "/test", Type: "test", Topic: topic, ContentType: "application/octet-stream", Data: data, Subject: fmt.Sprint(n)}
		if _, err := f.bus.Publish(f.ctx, event.Batch{Events: []event.Event{e}}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 400 {
		publish("pointer/a", n)
		publish("kept/a", n)
	}
	slow.ends(3008)
	at := reply.Subscribe.Offset
	for n := range 400 {
		p := patient.must().Push.Pub
		if p == nil || p.Tags["subject"] != fmt.Sprint(n) || p.Offset <= at {
			t.Fatalf("event %d is %+v", n, p)
		}
		at = p.Offset
	}
}
