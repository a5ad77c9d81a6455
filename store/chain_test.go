package store

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/event"
)

// With one topic a seq is an ordinal, so the links can be checked against the
// rule that DESIGN.md gives for ordinals.
func TestChainLinks(t *testing.T) {
	c := chain{}
	for n := int64(1); n <= 5000; n++ {
		got := c.push(n, 10)
		want := node{seq: n, prev: n - 1, jump: n - leastTerm(n), ordinal: n, total: 10 * n, size: 10}
		if got != want {
			t.Fatalf("event %d has the links %+v, want %+v", n, got, want)
		}
	}
}

// Reads of any topic, from any cursor, agree with a plain list; also over
// restarts, when the ends of the chains are read back, and after purges.
func TestChainAgainstList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	db, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const topics, keep = 7, 90
	lists := make([][]int64, topics)
	for range 6 {
		l, err := OpenLog(t.Context(), db, Options{Rules: event.Rules{{Match: "**", Keep: event.Keep{Events: keep}}}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			appendRandom(t, l, random, lists)
			i := random.IntN(topics)
			checkTopic(t, l, random, i, lists[i])
		}
		for more := true; more; {
			if more, err = l.Maintain(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		}
		for i := range lists {
			lists[i] = lists[i][max(0, len(lists[i])-keep):]
			checkTopic(t, l, random, i, lists[i])
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func appendRandom(t *testing.T, l *Log, random *rand.Rand, lists [][]int64) {
	t.Helper()
	events := make([]event.Event, 1+random.IntN(40))
	for j := range events {
		events[j] = event.Event{ID: fmt.Sprint(random.Int64()), Source: "s", Type: "t", Topic: topicName(random.IntN(len(lists))), Time: time.Now(), Data: []byte("1")}
	}
	receipts, err := l.Append(t.Context(), []event.Batch{{Events: events}})
	if err != nil {
		t.Fatal(err)
	}
	for j, r := range receipts[0] {
		var i int
		if _, err := fmt.Sscanf(string(events[j].Topic), "t%d", &i); err != nil {
			t.Fatal(err)
		}
		lists[i] = append(lists[i], r.Cursor.Seq)
	}
}

func topicName(i int) event.Topic { return event.Topic(fmt.Sprintf("t%d", i)) }

func checkTopic(t *testing.T, l *Log, random *rand.Rand, i int, list []int64) {
	t.Helper()
	after := event.Cursor{}
	if len(list) > 0 && random.IntN(2) == 0 {
		after = l.cursor(list[random.IntN(len(list))])
	}
	limit := 1 + random.IntN(50)
	page, err := l.Read(t.Context(), event.Query{Patterns: []event.Pattern{event.Pattern(topicName(i))}, After: after, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	start, _ := slices.BinarySearch(list, after.Seq+1)
	var got []int64
	for _, r := range page.Records {
		got = append(got, r.Cursor.Seq)
	}
	want := slices.Clone(list[start:min(len(list), start+limit)])
	if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
		t.Fatalf("topic %d after %s, %d at most (-want +got):\n%s", i, after, limit, diff)
	}
}

// A damaged file is an error, not an endless walk.
func TestChainDamaged(t *testing.T) {
	db, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l, err := OpenLog(t.Context(), db, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lists := make([][]int64, 1)
	for range 5 {
		appendRandom(t, l, rand.New(rand.NewPCG(3, 4)), lists)
	}
	if _, err := db.writer.ExecContext(t.Context(), `UPDATE events SET prev = seq, jump = seq`); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(t.Context(), event.Query{Patterns: []event.Pattern{"t0"}, Limit: 2}); err == nil {
		t.Error("Read of a chain in a circle succeeded")
	}
}
