package centrifuge

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/problem"
)

// Times and bounds of a conversation.
const (
	connectTime = 5 * time.Second  // to send the connect command
	pingTime    = 25 * time.Second // between pings
	pongTime    = 10 * time.Second // to answer one
	restTime    = 50 * time.Millisecond
	maxAhead    = 30 * time.Second // that a client is told to refresh ahead of its expiry
	maxWaiting  = 256 << 10        // bytes of messages whose commands wait
	flushSize   = 64 << 10         // bytes of replies that go out together
)

// conversation is what a client is, said and waits for. All of it belongs to
// the client's loop but what Server and rooms keep.
type conversation struct {
	server    *Server
	client    *push.Client
	transport push.Transport
	id        string
	session   string            // of emulation; empty: none
	identity  *account.Identity // nil: not connected
	byToken   bool              // that the client sent, and can renew
	refused   bool              // to connect; it may try again
	subs      map[event.Pattern]struct{}

	queue   []command // that wait, in order
	waiting int       // bytes of the messages that they came in
	busy    bool      // a command waits for what is done elsewhere
	running bool
	closed  bool
	out     []byte // replies, a line each

	connectBy time.Time
	pingAt    time.Time
	pongBy    time.Time // zero: no ping is unanswered
}

func newConversation(s *Server, client *push.Client, t push.Transport) *conversation {
	c := &conversation{server: s, client: client, transport: t, id: uuid.NewString(), connectBy: time.Now().Add(connectTime)}
	if t != push.OverWebSocket {
		c.session = s.open(c)
	}
	c.arm()
	return c
}

// Receive implements push.Conversation.
func (c *conversation) Receive(message []byte) {
	c.pongBy = time.Time{} // whatever it says, it is there
	commands, err := decode(message)
	if err != nil {
		c.server.Logger.Debug("message refused", "client", c.id, "err", err)
		c.leave(byeBadRequest)
		return
	}
	if c.waiting += len(message); c.waiting > maxWaiting && len(c.queue) > 0 {
		c.leave(byeTooManyRequests)
		return
	}
	c.queue = append(c.queue, commands...)
	c.run()
}

// run carries out the commands that wait, up to one that has to be waited for.
// More than the client takes replies for is not done.
func (c *conversation) run() {
	if c.running {
		return
	}
	c.running = true
	for !c.closed && !c.busy && len(c.queue) > 0 && !c.client.Full() {
		next := c.queue[0]
		c.queue[0] = command{} // what it holds is not to stay with the array
		c.queue = c.queue[1:]
		c.handle(&next)
		if len(c.out) > flushSize {
			c.flush()
		}
	}
	c.running = false
	if c.closed {
		return
	}
	if len(c.queue) == 0 {
		c.queue, c.waiting = nil, 0
	}
	c.flush()
	c.arm()
}

// await has the next command wait until done is called.
func (c *conversation) await() { c.busy = true }

func (c *conversation) done() {
	c.busy = false
	c.run()
}

func (c *conversation) handle(cmd *command) {
	switch {
	case cmd.pong() || cmd.Send != nil: // nobody would hear what is sent
	case cmd.ID == 0, c.identity != nil && cmd.Connect != nil, c.identity == nil && cmd.Connect == nil && !c.refused:
		c.leave(byeBadRequest)
	case cmd.Connect != nil:
		c.connect(cmd.ID, cmd.Connect)
	case c.identity == nil: // it came with a connect command that was refused
		c.fail(cmd.ID, "unknown", errUnauthorized)
	case cmd.Subscribe != nil:
		c.subscribe(cmd.ID, cmd.Subscribe)
	case cmd.Unsubscribe != nil:
		c.unsubscribe(cmd.ID, cmd.Unsubscribe)
	case cmd.Publish != nil:
		c.publish(cmd.ID, cmd.Publish)
	case cmd.Presence != nil:
		c.presence(cmd.ID, cmd.Presence)
	case cmd.PresenceStats != nil:
		c.presenceStats(cmd.ID, cmd.PresenceStats)
	case cmd.History != nil:
		c.history(cmd.ID, cmd.History)
	case cmd.Refresh != nil:
		c.refresh(cmd.ID, cmd.Refresh)
	case cmd.Ping != nil:
		c.reply(cmd.ID, "ping", []byte("{}"))
	case cmd.RPC != nil:
		c.fail(cmd.ID, "rpc", errNotAvailable)
	case cmd.SubRefresh != nil:
		c.fail(cmd.ID, "sub_refresh", errNotAvailable) // subscriptions have no tokens
	default:
		c.fail(cmd.ID, "unknown", errMethodNotFound)
	}
}

// reply answers a command.
func (c *conversation) reply(id uint32, method string, result []byte) {
	c.server.metrics.commands.WithLabelValues(method, "0").Inc()
	c.line()
	c.out = appendReply(c.out, id, method, result)
}

func (c *conversation) fail(id uint32, method string, f *failure) {
	c.server.metrics.commands.WithLabelValues(method, strconv.Itoa(f.Code)).Inc()
	c.line()
	c.out = appendReply(c.out, id, "error", object(f))
}

// push tells the client what it did not ask for, after the replies.
func (c *conversation) push(channel event.Pattern, kind string, what any) {
	c.line()
	c.out = appendPush(c.out, channel, kind, what)
}

// line begins another line of what goes out.
func (c *conversation) line() {
	if len(c.out) > 0 {
		c.out = append(c.out, '\n')
	}
}

// flush sends the replies together. Only an event of SSE cannot hold lines.
func (c *conversation) flush() {
	if len(c.out) == 0 {
		return
	}
	out := c.out
	c.out = nil
	if c.transport != push.OverSSE {
		c.client.Send(out)
		return
	}
	for line := range bytes.SplitSeq(out, []byte{'\n'}) {
		c.client.Send(line)
	}
}

// leave sends the client away.
func (c *conversation) leave(f farewell) {
	if c.closed {
		return
	}
	c.server.metrics.disconnects.WithLabelValues(strconv.Itoa(int(f.Code))).Inc()
	if c.transport != push.OverWebSocket {
		c.line()
		c.out = append(append(append(c.out, `{"push":{"disconnect":`...), object(f)...), "}}"...)
	}
	c.flush()
	c.client.Close(f.Code, f.Reason)
}

// End implements push.Conversation.
func (c *conversation) End(why error) {
	switch {
	case errors.Is(why, event.ErrClosed):
		c.leave(byeShutdown)
	case errors.Is(why, push.ErrTooSlow):
		c.leave(byeSlow)
	default:
		c.server.Logger.Error("session failed", "client", c.id, "err", why)
		c.leave(byeInternal)
	}
}

// Closed implements push.Conversation.
func (c *conversation) Closed() {
	c.closed = true
	for channel := range c.subs {
		c.depart(channel)
	}
	if c.session != "" {
		c.server.close(c.session)
	}
}

// Timeout implements push.Conversation.
func (c *conversation) Timeout() {
	now := time.Now()
	switch {
	case c.identity == nil:
		if !c.busy && !now.Before(c.connectBy) {
			c.leave(byeStale)
			return
		}
	case c.expired(now):
		c.leave(byeExpired)
		return
	case !c.pongBy.IsZero() && !now.Before(c.pongBy):
		c.leave(byeNoPong)
		return
	case !now.Before(c.pingAt):
		c.pingAt = now.Add(pingTime)
		if !c.client.Full() { // else the ping would be late, and the loop sees to it that it takes what it is sent
			c.client.Send([]byte("{}"))
			c.pongBy = now.Add(pongTime)
		}
	}
	c.run()
}

func (c *conversation) expired(now time.Time) bool {
	return !c.identity.Expires.IsZero() && !now.Before(c.identity.Expires)
}

// arm sets when Timeout is called next.
func (c *conversation) arm() {
	at := c.connectBy
	switch {
	case c.identity != nil:
		at = earlier(earlier(c.pingAt, c.pongBy), c.identity.Expires)
	case c.busy: // it did its part in time
		c.client.Wake(0)
		return
	}
	d := time.Until(at)
	if len(c.queue) > 0 && !c.busy { // the client takes nothing for now
		d = min(d, restTime)
	}
	c.client.Wake(max(d, 1))
}

// earlier is the earlier of a and b, if b is not never.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

// connect finds out who the client is, and subscribes it to what it need not
// ask for.
func (c *conversation) connect(id uint32, r *connectRequest) {
	c.await()
	c.client.Identify(r.Token, func(identity *account.Identity, err error) {
		if err != nil {
			c.refused = true
			c.refuse(id, "connect", err)
			c.done()
			return
		}
		c.identity, c.byToken = identity, r.Token != ""
		c.pingAt = time.Now().Add(pingTime)
		c.client.Hold() // events are to come after the reply
		c.subscribeAll(c.serverSide(r), func(subs map[string]rawJSON) {
			expires, ttl := c.lifetime()
			result := connectResult{Client: c.id, Expires: expires, TTL: ttl, Subs: subs, Ping: int(pingTime.Seconds()), Pong: true}
			if c.session != "" {
				result.Session, result.Node = c.session, c.server.node
			}
			c.reply(id, "connect", object(result))
			c.flush()
			c.client.Release()
			c.done()
		})
	})
}

// refuse answers that a client could not be identified.
func (c *conversation) refuse(id uint32, method string, err error) {
	code := problem.From(err).Code
	_, wrong := errors.AsType[*account.AuthError](err)
	switch {
	case code == "token-expired":
		c.fail(id, method, errTokenExpired)
	case code == "too-many-tickets", code == "too-many-sessions":
		c.fail(id, method, errTooManyRequests)
	case wrong:
		c.server.Logger.Debug("token refused", "client", c.id, "err", err)
		c.leave(byeInvalidToken)
	default:
		c.server.Logger.Warn("identification failed", "client", c.id, "err", err)
		c.fail(id, method, errInternal)
	}
}

// lifetime says when the client is to send a new token: some time ahead of the
// expiry, at which the connection ends. A client that did not send its
// credential cannot renew it, and would give up.
func (c *conversation) lifetime() (expires bool, seconds int64) {
	if !c.byToken || c.identity.Expires.IsZero() {
		return false, 0
	}
	left := time.Until(c.identity.Expires)
	return true, max(1, int64((left - min(left/10, maxAhead)).Seconds()))
}

// refresh takes a new token. What it does not allow any more ends.
func (c *conversation) refresh(id uint32, r *refreshRequest) {
	if r.Token == "" {
		c.fail(id, "refresh", errBadRequest)
		return
	}
	c.await()
	c.client.Identify(r.Token, func(identity *account.Identity, err error) {
		defer c.done()
		switch {
		case err != nil:
			c.refuse(id, "refresh", err)
			return
		case identity.User != c.identity.User:
			c.leave(byeInvalidToken)
			return
		}
		c.identity, c.byToken = identity, true
		expires, ttl := c.lifetime()
		c.reply(id, "refresh", object(refreshResult{Client: c.id, Expires: expires, TTL: ttl}))
		for channel := range c.subs {
			if !c.mayRead(channel) {
				c.drop(channel, gonePermissionDenied)
			}
		}
	})
}

func (c *conversation) mayRead(channel event.Pattern) bool {
	return c.server.Access.MayRead(c.identity, channel)
}
