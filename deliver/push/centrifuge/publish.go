package centrifuge

import (
	"context"
	"errors"
	"net/url"

	"github.com/chappe/chappe/event"
)

// publish takes an event from a client, where the topic's rule lets it.
func (c *conversation) publish(id uint32, r *publishRequest) {
	topic, err := event.ParseTopic(r.Channel)
	if err != nil || len(r.Data) == 0 {
		c.fail(id, "publish", errBadRequest)
		return
	}
	if !c.mayPublish(topic) {
		c.fail(id, "publish", errPermissionDenied)
		return
	}
	who := c.identity.User
	if who == "" {
		who = c.id
	}
	batch := event.Batch{Events: []event.Event{{
		Type: "message", Source: "/clients/" + url.PathEscape(who), Topic: topic, Data: r.Data,
	}}}
	c.elsewhere(id, "publish", func() ([]byte, *failure) {
		_, err := c.server.Publisher.Publish(context.Background(), batch)
		return []byte("{}"), c.server.refusal(err)
	})
}

func (c *conversation) mayPublish(t event.Topic) bool {
	return c.identity.MayPublish(t) || c.server.Access.Rules.For(t).Publish && c.mayRead(event.Pattern(t))
}

// elsewhere has what may block done off the loop, and its result replied.
func (c *conversation) elsewhere(id uint32, method string, work func() ([]byte, *failure)) {
	c.await()
	began := c.client.Go(func() func() {
		result, f := work()
		return func() {
			if f != nil {
				c.fail(id, method, f)
			} else {
				c.reply(id, method, result)
			}
			c.done()
		}
	})
	if !began {
		c.fail(id, method, errTooManyRequests)
		c.done()
	}
}

// refusal is what a client is told of an error.
func (s *Server) refusal(err error) *failure {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*event.InvalidError](err); ok {
		return errBadRequest
	}
	if _, ok := errors.AsType[*event.LimitError](err); ok {
		return errLimitExceeded
	}
	if _, ok := errors.AsType[*event.GoneError](err); ok {
		return errUnrecoverable
	}
	if !errors.Is(err, event.ErrClosed) {
		s.Logger.Error("command failed", "err", err)
	}
	return errInternal
}
