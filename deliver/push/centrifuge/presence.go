package centrifuge

import (
	"sync"

	"github.com/chappe/chappe/event"
)

// Bounds of rooms. Beyond, a channel has more comings and goings than anyone
// could follow: there are n² messages of n clients.
const (
	maxAnnounced = 1000   // subscribers of a channel, to be told who joins and leaves
	maxListed    = 10_000 // in a presence reply
)

// rooms are the channels that tell who is subscribed. The zero rooms is empty.
type rooms struct {
	mu sync.Mutex
	of map[event.Pattern]map[*conversation]member
}

// enter adds a client and returns who is there then.
func (rs *rooms) enter(channel event.Pattern, c *conversation) []*conversation {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	room := rs.of[channel]
	if room == nil {
		if rs.of == nil {
			rs.of = map[event.Pattern]map[*conversation]member{}
		}
		room = map[*conversation]member{}
		rs.of[channel] = room
	}
	room[c] = c.member()
	return audience(room)
}

// leave removes a client and returns who is still there.
func (rs *rooms) leave(channel event.Pattern, c *conversation) []*conversation {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	room := rs.of[channel]
	if _, ok := room[c]; !ok {
		return nil
	}
	if delete(room, c); len(room) == 0 {
		delete(rs.of, channel)
	}
	return audience(room)
}

func audience(room map[*conversation]member) []*conversation {
	if len(room) > maxAnnounced {
		return nil
	}
	list := make([]*conversation, 0, len(room))
	for c := range room {
		list = append(list, c)
	}
	return list
}

// list is who is there, by client; nil if there are too many.
func (rs *rooms) list(channel event.Pattern) map[string]member {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(rs.of[channel]) > maxListed {
		return nil
	}
	members := map[string]member{}
	for _, m := range rs.of[channel] {
		members[m.Client] = m
	}
	return members
}

// count is how many clients and users there are.
func (rs *rooms) count(channel event.Pattern) (clients, users int) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	seen := map[string]struct{}{}
	for _, m := range rs.of[channel] {
		seen[m.User] = struct{}{}
	}
	return len(rs.of[channel]), len(seen)
}

func (c *conversation) member() member { return member{c.id, c.identity.User} }

// arrive tells that the client subscribed, where the channel's rule asks for it.
func (c *conversation) arrive(channel event.Pattern) {
	rules := c.server.Access.Rules
	if announced := rules.All(channel, joinLeave); announced || rules.All(channel, presence) {
		c.announce(channel, "join", c.server.rooms.enter(channel, c), announced)
	}
}

func (c *conversation) depart(channel event.Pattern) {
	if audience := c.server.rooms.leave(channel, c); audience != nil {
		c.announce(channel, "leave", audience, c.server.Access.Rules.All(channel, joinLeave))
	}
}

func (c *conversation) announce(channel event.Pattern, kind string, audience []*conversation, announced bool) {
	if !announced {
		return
	}
	what := map[string]member{"info": c.member()}
	for _, other := range audience {
		other.client.Post(func() { other.hear(channel, kind, what) })
	}
}

// hear tells a subscriber who came or went. It cannot catch up with that, so
// it is sent away if it takes nothing.
func (c *conversation) hear(channel event.Pattern, kind string, what any) {
	if _, ok := c.subs[channel]; !ok {
		return
	}
	if c.client.Full() {
		c.leave(byeSlow)
		return
	}
	c.push(channel, kind, what)
	c.flush()
}

// room is the channel of a presence command.
func (c *conversation) room(name string) (event.Pattern, *failure) {
	channel, f := c.channel(name)
	if f == nil && !c.server.Access.Rules.All(channel, presence) {
		f = errNotAvailable
	}
	return channel, f
}

func (c *conversation) presence(id uint32, r *channelRequest) {
	channel, f := c.room(r.Channel)
	var members map[string]member
	if f == nil {
		if members = c.server.rooms.list(channel); members == nil {
			f = errLimitExceeded
		}
	}
	if f != nil {
		c.fail(id, "presence", f)
		return
	}
	c.reply(id, "presence", object(map[string]any{"presence": members}))
}

func (c *conversation) presenceStats(id uint32, r *channelRequest) {
	channel, f := c.room(r.Channel)
	if f != nil {
		c.fail(id, "presence_stats", f)
		return
	}
	clients, users := c.server.rooms.count(channel)
	c.reply(id, "presence_stats", object(map[string]int{"num_clients": clients, "num_users": users}))
}
