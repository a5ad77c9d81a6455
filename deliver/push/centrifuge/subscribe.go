package centrifuge

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"slices"

	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
)

// Bounds of subscriptions.
const (
	maxSubscriptions = 128     // of a client
	maxRecovered     = 1000    // events in a reply
	maxReplyBytes    = 1 << 20 // of events in a reply
)

type rawJSON = json.RawMessage

func ephemeral(r *event.Rule) bool { return r.Ephemeral }
func presence(r *event.Rule) bool  { return r.Presence }
func joinLeave(r *event.Rule) bool { return r.JoinLeave }

// channel checks what a client names; event.Pattern bounds its length.
func (c *conversation) channel(name string) (event.Pattern, *failure) {
	p, err := event.ParsePattern(name)
	switch {
	case err != nil:
		return "", errBadRequest
	case !c.mayRead(p):
		return "", errPermissionDenied
	}
	return p, nil
}

func (c *conversation) subscribe(id uint32, r *subscribeRequest) {
	channel, f := c.channel(r.Channel)
	if _, taken := c.subs[channel]; f == nil && taken {
		f = errAlreadySubscribed
	}
	if f == nil && len(c.subs) >= maxSubscriptions {
		f = errLimitExceeded
	}
	if f != nil {
		c.fail(id, "subscribe", f)
		return
	}
	c.await()
	c.follow(channel, r, func(result *subscribeResult) {
		if result == nil {
			c.fail(id, "subscribe", errUnrecoverable)
		} else {
			c.reply(id, "subscribe", result.json())
			c.arrive(channel)
		}
		c.done()
	})
}

// follow subscribes to a channel that was checked. Then is given nil if what
// was missed could not be recovered although it must.
func (c *conversation) follow(channel event.Pattern, r *subscribeRequest, then func(*subscribeResult)) {
	kept := !c.server.Access.Rules.All(channel, ephemeral)
	past := push.Past{}
	if r.Recover && kept {
		past = push.Past{
			After: event.Cursor{Epoch: cmp.Or(r.Epoch, c.server.Reader.Head().Epoch), Seq: int64(min(r.Offset, math.MaxInt64))},
			Most:  maxRecovered, Bytes: maxReplyBytes,
		}
	}
	if c.subs == nil {
		c.subs = map[event.Pattern]struct{}{}
	}
	c.subs[channel] = struct{}{}
	c.client.Subscribe(channel, past, func(j push.Joined, _ error) {
		result := &subscribeResult{WasRecovering: r.Recover, Recovered: j.Recovered, records: j.Records}
		if kept {
			result.Recoverable, result.Positioned, result.Epoch, result.Offset = true, true, j.Head.Epoch, j.Head.Seq
		}
		if len(j.Records) > 0 { // each of them moves the client on, should it take only some
			result.Offset = past.After.Seq
		}
		if r.Flag&flagRejectUnrecovered != 0 && r.Recover && !j.Recovered {
			c.client.Unsubscribe(channel)
			delete(c.subs, channel)
			result = nil
		}
		then(result)
	})
}

func (c *conversation) unsubscribe(id uint32, r *channelRequest) {
	channel := event.Pattern(r.Channel)
	if _, ok := c.subs[channel]; ok {
		c.end(channel)
	}
	c.reply(id, "unsubscribe", []byte("{}")) // clients start anew if it fails
}

// end ends a subscription.
func (c *conversation) end(channel event.Pattern) {
	c.client.Unsubscribe(channel)
	delete(c.subs, channel)
	c.depart(channel)
}

// drop ends a subscription that the client wants to go on.
func (c *conversation) drop(channel event.Pattern, why farewell) {
	c.end(channel)
	c.push(channel, "unsubscribe", why)
}

// Lost implements push.Conversation.
func (c *conversation) Lost(channel event.Pattern) {
	c.drop(channel, goneInsufficientState)
	c.flush()
}

// serverSide is what a client is subscribed to without asking: the channels
// that its token names, and those it was subscribed to so before, as far as
// it still may read them.
func (c *conversation) serverSide(r *connectRequest) []subscribeRequest {
	wanted := maps.Clone(r.Subs)
	if wanted == nil {
		wanted = map[string]subscribeRequest{}
	}
	for _, channel := range c.identity.Channels() {
		wanted[string(channel)] = r.Subs[string(channel)]
	}
	var list []subscribeRequest
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if _, f := c.channel(name); f == nil && len(list) < maxSubscriptions {
			sub := wanted[name]
			sub.Channel, sub.Flag = name, 0
			list = append(list, sub)
		}
	}
	return list
}

// subscribeAll subscribes to one after another.
func (c *conversation) subscribeAll(list []subscribeRequest, then func(map[string]rawJSON)) {
	results := map[string]rawJSON{}
	var next func()
	next = func() {
		if len(list) == 0 {
			then(results)
			return
		}
		r := list[0]
		list = list[1:]
		c.follow(event.Pattern(r.Channel), &r, func(result *subscribeResult) {
			results[r.Channel] = result.json()
			c.arrive(event.Pattern(r.Channel))
			next()
		})
	}
	next()
}
