package push

import (
	"net/http"
	"slices"
	"strings"
	"unsafe"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/front"
	"github.com/chappe/chappe/internal/clientip"
	"github.com/chappe/chappe/internal/head"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/problem"
)

// start stands for the oldest event kept, where a cursor is given.
const start = "start"

// subscription is a request that was let in.
type subscription struct {
	identity *account.Identity
	patterns []event.Pattern // sorted, each once; the shard's scratch
	after    event.Cursor    // zero: from the oldest kept
	now      bool            // from now, whatever after says
	wait     string          // of a long-poll
	held     place
	done     func() // ends the use of a ticket; may be nil
}

// anonymous is the identity of whoever shows no credential.
var anonymous account.Identity

// door is one way in: who may come from where, and what becomes of them.
type door struct {
	origin func(*http.Request) error
	enter  func(*front.Exchange, *subscription)
	refuse func(*front.Exchange, error)
}

// doors of a shard, made once: a method value is an allocation.
type doors struct{ stream, poll, webSocket door }

func (sh *shard) openDoors() {
	origins := func() account.Origins { return sh.hub.access.Origins }
	stream := func(r *http.Request) error { return origins().CheckStream(r) }
	webSocket := func(r *http.Request) error { return origins().CheckWebSocket(r) }
	sh.doors = doors{
		stream:    door{stream, sh.openStream, sh.refuseStream},
		poll:      door{stream, sh.openPoll, sh.answerProblem},
		webSocket: door{webSocket, sh.openWebSocket, sh.refuseWebSocket},
	}
}

// admit finds out who asks, checks what for and takes a place, then has them
// enter or be refused. What may block is done elsewhere.
func (sh *shard) admit(x *front.Exchange, d *door) {
	if id := sh.quick(x); id != nil {
		sh.let(x, d, id, nil)
		return
	}
	r, err := x.Request()
	if err == nil {
		err = d.origin(r)
	}
	var held *front.Exchange
	if err == nil {
		held, err = x.Hold()
	}
	if err != nil {
		d.refuse(x, err)
		return
	}
	identify := func() {
		id, done, err := sh.hub.access.IdentifyStream(r)
		sh.loop.Post(func() {
			if err != nil {
				d.refuse(held, err)
				return
			}
			sh.let(held, d, id, done)
		})
	}
	if !sh.hub.pool.Go(identify) {
		d.refuse(held, errFull{"the work that waits"})
	}
}

// quick is who asks, where that shows at once: a request without credentials,
// or with a token that we signed, from no browser that a foreign page could
// have misled. Else it is nil.
func (sh *shard) quick(x *front.Exchange) *account.Identity {
	for _, name := range [...]string{"cookie", "origin", "sec-fetch-site"} {
		if x.Has(name) {
			return nil
		}
	}
	if x.Has("authorization") {
		scheme, token, _ := strings.Cut(x.Header("authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return nil
		}
		return sh.hub.access.Verifier.Quick(token)
	}
	ticket := false
	_ = head.Query(x.Query(), func(name, _ []byte) bool { // what is malformed is no ticket
		ticket = ticket || string(name) == "ticket"
		return !ticket
	})
	if ticket {
		return nil
	}
	return &anonymous
}

// let takes in a request of somebody known.
func (sh *shard) let(x *front.Exchange, d *door, id *account.Identity, done func()) {
	sub := &sh.sub
	*sub = subscription{identity: id, patterns: sub.patterns[:0], done: done}
	err := sh.parse(x, sub)
	if err == nil {
		sub.held, err = sh.hub.places.enter(clientip.Of(x.Peer(), x.Header("x-forwarded-for"), sh.hub.options.TrustedProxies), id)
	}
	if err != nil {
		if done != nil {
			done()
		}
		d.refuse(x, err)
		return
	}
	d.enter(x, sub)
}

// giveBack undoes what let did, for a request that is refused after all.
func (sh *shard) giveBack(sub *subscription) {
	sh.hub.places.leave(sub.held)
	if sub.done != nil {
		sub.done()
	}
}

func (sh *shard) parse(x *front.Exchange, sub *subscription) (err error) {
	var after string
	_ = head.Query(x.Query(), func(name, value []byte) bool { // what is malformed is skipped
		switch text := unsafe.String(unsafe.SliceData(value), len(value)); string(name) {
		case "topic":
			sub.patterns = append(sub.patterns, event.Pattern(text))
		case "after":
			after = text
		case "wait":
			sub.wait = text
		}
		return len(sub.patterns) <= maxPatterns
	})
	if len(sub.patterns) == 0 || len(sub.patterns) > maxPatterns {
		return problem.New("bad-pattern", "Name 1 to 64 topics or patterns, as ?topic=mail/alice/*")
	}
	for _, p := range sub.patterns {
		if _, err := event.ParsePattern(string(p)); err != nil {
			return err
		}
	}
	slices.Sort(sub.patterns)
	sub.patterns = slices.Compact(sub.patterns)
	if err := sh.mayRead(sub); err != nil {
		return err
	}
	if id := x.Header("last-event-id"); id != "" {
		after = id
	}
	switch after {
	case "":
		sub.now = true
	case start:
	default:
		sub.after, err = event.ParseCursor(after)
		if head := sh.hub.reader.Head(); sub.after.Epoch == head.Epoch {
			sub.after.Epoch = head.Epoch // after is a view
		} else {
			sub.after.Epoch = strings.Clone(sub.after.Epoch)
		}
	}
	return err
}

func (sh *shard) mayRead(sub *subscription) error {
	for _, p := range sub.patterns {
		if sh.hub.access.MayRead(sub.identity, p) {
			continue
		}
		if !sub.identity.Known() {
			return problem.New("token-missing", "Topic "+string(p)+" is not public: send a token (Authorization: Bearer ...) or a ticket")
		}
		return problem.New("forbidden", "This token may not read "+string(p))
	}
	return nil
}

// answerProblem refuses a request by its status.
func (sh *shard) answerProblem(x *front.Exchange, err error) {
	p := problem.From(err)
	sh.hub.metrics.refused.WithLabelValues(p.Code).Inc()
	if p.Code == "internal" {
		sh.hub.options.Logger.Error("session refused", "err", err)
	}
	header, body := p.Answer()
	x.Answer(p.Status, header, body)
}

// refusedForNow reports whether a request was refused that is welcome later.
// It is told so in the way that lets a browser come back.
func refusedForNow(err error) bool {
	return problem.From(err).Status == http.StatusServiceUnavailable
}

// shardOf is the shard of a loop.
func (h *Hub) shardOf(l *loop.Loop) *shard {
	for _, sh := range h.shards {
		if sh.loop == l {
			return sh
		}
	}
	return h.shards[0]
}
