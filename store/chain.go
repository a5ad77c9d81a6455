package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/bits"
)

// node is an event as a link of its topic's chain (DESIGN.md).
type node struct {
	seq, prev, jump, ordinal, total, size, committed int64
}

// term is one summand 2^k-1 of a topic's ordinal, with the seq of the event
// whose ordinal is the sum up to it.
type term struct{ seq, weight int64 }

// chain is the end of a topic: what appending needs.
type chain struct {
	head, ordinal, total int64
	terms                []term // nil after a restart, until restored
}

// push appends an event and returns its links.
func (c *chain) push(seq, size int64) node {
	n := node{seq: seq, prev: c.head, ordinal: c.ordinal + 1, total: c.total + size, size: size}
	last := len(c.terms) - 1
	weight := int64(1)
	if last >= 1 && c.terms[last].weight == c.terms[last-1].weight {
		weight += 2 * c.terms[last].weight
		c.terms = c.terms[:last-1]
	}
	if len(c.terms) > 0 {
		n.jump = c.terms[len(c.terms)-1].seq
	}
	c.terms = append(c.terms, term{seq, weight})
	c.head, c.ordinal, c.total = seq, n.ordinal, n.total
	return n
}

// leastTerm is the last summand of n in its greedy sum of 2^k-1: how far the
// event with ordinal n jumps back.
func leastTerm(n int64) int64 {
	var weight int64
	for n > 0 {
		weight = 1<<(bits.Len64(uint64(n+1))-1) - 1
		n -= weight
	}
	return weight
}

// chainReader follows chains in one transaction.
type chainReader struct {
	tx    *sql.Tx
	links *sql.Stmt // selectLinks, prepared
}

const selectLinks = `SELECT prev, jump, ordinal, total, COALESCE(LENGTH(data), 0), committed FROM events WHERE seq = $1`

// follow reads a linked event. Ordinals must fall, or a damaged file would
// lead in circles.
func (r chainReader) follow(ctx context.Context, from node, seq int64) (node, error) {
	n, err := r.node(ctx, seq)
	if err == nil && n.ordinal >= from.ordinal {
		err = fmt.Errorf("the log is damaged: event %d links to event %d, which is not before it in its topic; restore a backup", from.seq, seq)
	}
	return n, err
}

func (r chainReader) node(ctx context.Context, seq int64) (node, error) {
	n := node{seq: seq}
	err := r.tx.StmtContext(ctx, r.links).QueryRowContext(ctx, seq).
		Scan(&n.prev, &n.jump, &n.ordinal, &n.total, &n.size, &n.committed)
	if err != nil {
		return node{}, fmt.Errorf("event %d of a topic's chain: %w", seq, err)
	}
	return n, nil
}

// oldest is the oldest event after the ordinal floor that wanted holds for.
// It must hold for each event that is newer than one it holds for. It returns
// false if there is none.
func (r chainReader) oldest(ctx context.Context, head, floor int64, wanted func(node) bool) (node, bool, error) {
	found, err := r.node(ctx, head)
	if err != nil || !wanted(found) {
		return node{}, false, err
	}
	for {
		older, err := r.step(ctx, found, floor, wanted)
		if err != nil || older.seq == found.seq {
			return found, true, err
		}
		found = older
	}
}

// step goes from n to the oldest linked event that is wanted, or stays.
func (r chainReader) step(ctx context.Context, n node, floor int64, wanted func(node) bool) (node, error) {
	for _, link := range []struct{ seq, ordinal int64 }{
		{n.jump, n.ordinal - leastTerm(n.ordinal)},
		{n.prev, n.ordinal - 1},
	} {
		if link.ordinal <= floor {
			continue
		}
		older, err := r.follow(ctx, n, link.seq)
		if err != nil || wanted(older) {
			return older, err
		}
	}
	return n, nil
}

// at is the event with that ordinal.
func (r chainReader) at(ctx context.Context, head, ordinal int64) (node, error) {
	n, err := r.node(ctx, head)
	for err == nil && n.ordinal > ordinal {
		next := n.prev
		if n.ordinal-leastTerm(n.ordinal) >= ordinal {
			next = n.jump
		}
		n, err = r.follow(ctx, n, next)
	}
	return n, err
}

// seqs is up to limit events after seq, oldest first, of the topic that ends
// at head and is purged up to the ordinal floor.
func (r chainReader) seqs(ctx context.Context, head, floor, after int64, limit int) ([]int64, error) {
	first, ok, err := r.oldest(ctx, head, floor, func(n node) bool { return n.seq > after })
	if err != nil || !ok {
		return nil, err
	}
	newest, err := r.node(ctx, head)
	if err != nil {
		return nil, err
	}
	last, err := r.at(ctx, head, min(newest.ordinal, first.ordinal+int64(limit)-1))
	if err != nil {
		return nil, err
	}
	rows, err := r.tx.QueryContext(ctx, `
		WITH RECURSIVE back (seq, prev) AS (
			SELECT seq, prev FROM events WHERE seq = $1
			UNION ALL
			SELECT e.seq, e.prev FROM back JOIN events e ON e.seq = back.prev WHERE back.seq > $2
		)
		SELECT seq FROM back ORDER BY seq`, last.seq, first.seq)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var seqs []int64
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, err
		}
		seqs = append(seqs, seq)
	}
	return seqs, rows.Err()
}

// restore reads back what push needs. Below the purged part rows may be gone;
// those links are never followed.
func (c *chain) restore(ctx context.Context, r chainReader, purgedThrough int64) error {
	var weights []int64
	for left := c.ordinal; left > 0; left -= leastTerm(left) {
		weights = append(weights, leastTerm(left))
	}
	c.terms = make([]term, len(weights))
	seq := c.head
	for i, weight := range weights {
		c.terms[len(weights)-1-i] = term{seq, weight}
		if seq > purgedThrough {
			n, err := r.node(ctx, seq)
			if err != nil {
				return err
			}
			seq = n.jump
		}
	}
	return nil
}
