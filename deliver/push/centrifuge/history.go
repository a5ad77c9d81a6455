package centrifuge

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/chappe/chappe/event"
)

// Bounds of history.
const (
	maxHistory = 1000   // events in a reply
	maxLooked  = 20_000 // events looked at for the newest of them
)

// history reads what is kept of a channel.
func (c *conversation) history(id uint32, r *historyRequest) {
	channel, f := c.channel(r.Channel)
	if f == nil && c.server.Access.Rules.All(channel, ephemeral) {
		f = errNotAvailable
	}
	if f != nil {
		c.fail(id, "history", f)
		return
	}
	c.elsewhere(id, "history", func() ([]byte, *failure) {
		head := c.server.Reader.Head()
		records, err := c.server.read(channel, r, head)
		if err != nil {
			return nil, c.server.refusal(err)
		}
		return withPublications(historyResult{head.Epoch, head.Seq}, records), nil
	})
}

// read returns the oldest events after since or, reversed, the newest before
// it; without since the oldest or newest of all.
func (s *Server) read(channel event.Pattern, r *historyRequest, head event.Cursor) ([]*event.Record, error) {
	limit := r.Limit
	if limit < 0 || limit > maxHistory {
		limit = maxHistory
	}
	var since event.Cursor
	if r.Since != nil {
		since = event.Cursor{Epoch: cmp.Or(r.Since.Epoch, head.Epoch), Seq: int64(min(r.Since.Offset, math.MaxInt64))}
		if since.Epoch != head.Epoch {
			return nil, &event.GoneError{Cursor: since, Head: head}
		}
	}
	switch {
	case limit == 0:
		return nil, nil
	case r.Reverse:
		return s.newest(channel, since, head, limit)
	}
	return s.oldest(channel, since, limit)
}

func (s *Server) oldest(channel event.Pattern, after event.Cursor, limit int) (records []*event.Record, err error) {
	size := 0
	err = s.each(channel, after, func(r *event.Record) bool {
		if size += len(r.JSON); size <= maxReplyBytes || len(records) == 0 {
			records = append(records, r)
		}
		return size < maxReplyBytes && len(records) < limit
	})
	return records, err
}

// newest looks ever further back, since the log is read forward only.
func (s *Server) newest(channel event.Pattern, before, head event.Cursor, limit int) ([]*event.Record, error) {
	end := head.Seq + 1
	if !before.IsZero() {
		end = min(end, before.Seq)
	}
	looked := 0
	for span := int64(2 * limit); ; span *= 8 {
		var last []*event.Record
		from := max(0, end-1-span)
		err := s.each(channel, event.Cursor{Epoch: head.Epoch, Seq: from, Kept: true}, func(r *event.Record) bool {
			if r.Cursor.Seq >= end {
				return false
			}
			if last = append(last, r); len(last) > limit {
				last = last[1:]
			}
			looked++
			return looked < maxLooked
		})
		switch {
		case err != nil:
			return nil, err
		case looked >= maxLooked:
			return nil, &event.LimitError{What: "channel"}
		case from == 0 || len(last) == limit:
			slices.Reverse(last)
			return fitting(last), nil
		}
	}
}

// fitting is the first of the records, as many as go into a reply.
func fitting(records []*event.Record) []*event.Record {
	size := 0
	for i, r := range records {
		if size += len(r.JSON); size > maxReplyBytes && i > 0 {
			return records[:i]
		}
	}
	return records
}

// each calls do for the channel's events after the cursor, until it returns false.
func (s *Server) each(channel event.Pattern, after event.Cursor, do func(*event.Record) bool) error {
	for {
		page, err := s.Reader.Read(context.Background(), event.Query{Patterns: []event.Pattern{channel}, After: after, Limit: maxHistory})
		if err != nil {
			return err
		}
		for _, r := range page.Records {
			if !do(r) {
				return nil
			}
		}
		if !page.More {
			return nil
		}
		after = page.Cursor
	}
}
