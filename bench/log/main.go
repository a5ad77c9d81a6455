// Command log measures durable publishing: through the bus, 256 in flight, on
// a log of 5 M events and 10,000 topics, beside raw SQLite that writes the
// same rows to the same tables in batches of 256, in turns in one run.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	_ "modernc.org/sqlite"

	"github.com/chappe/chappe/bus"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/store"
)

var (
	dir    = flag.String("dir", "", "data folder to make or to use again (default: a temporary one)")
	events = flag.Int("events", 5_000_000, "events in the log before the measurement")
	topics = flag.Int("topics", 10_000, "topics they belong to")
	rounds = flag.Int("rounds", 3, "turns of raw SQLite and bus")
	length = flag.Duration("length", 10*time.Second, "length of a turn")
)

const (
	dataBytes = 256
	inFlight  = 256
)

func main() {
	flag.Parse()
	if *dir == "" {
		temporary, err := os.MkdirTemp("", "chappe-bench-")
		check(err)
		defer os.RemoveAll(temporary)
		*dir = temporary
	}
	keep := int64(*events / *topics * 4)
	fill(keep)
	copyDB()
	var raw, ours []float64
	fmt.Println("| turn | raw SQLite | bus | p50 | p99 | max |\n|---|---|---|---|---|---|")
	for turn := range *rounds {
		raw = append(raw, rawSQLite())
		r := publish(keep, inFlight, *length)
		ours = append(ours, r.rate)
		fmt.Printf("| %d | %.0f/s | %.0f/s | %v | %v | %v |\n", turn+1, raw[turn], r.rate, r.p50, r.p99, r.max)
	}
	fmt.Printf("\nMedians: raw SQLite, batches of 256: %.0f/s; bus, %d in flight: %.0f/s = **%.2fx** (goals: >= 20,000/s, >= 0.5x).\n\n",
		median(raw), inFlight, median(ours), median(ours)/median(raw))
	fmt.Println("| also | events/s | p50 | p99 | max |\n|---|---|---|---|---|")
	row := func(what string, r result) {
		fmt.Printf("| %s | %.0f | %v | %v | %v |\n", what, r.rate, r.p50, r.p99, r.max)
	}
	row("1 publisher", publish(keep, 1, *length))
	row("over HTTP, 256 connections, 1 event a request", overHTTP(keep, inFlight, 1, *length))
	row("over HTTP, 16 connections, 100 events a request", overHTTP(keep, 16, 100, *length))
	row("each topic full: purges keep pace (goal: p99 <= 60 ms)", publish(int64(*events / *topics), inFlight, 3**length))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

var data = func() []byte {
	b := make([]byte, dataBytes)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	b[0], b[dataBytes-1] = '"', '"'
	return b
}()

func newEvent() event.Event {
	return event.Event{Source: "bench", Type: "bench", Topic: event.Topic(fmt.Sprintf("bench/%d", rand.IntN(*topics))), Data: data}
}

func openLog(keep int64) (*store.DB, *store.Log) {
	db, err := store.Open(context.Background(), *dir)
	check(err)
	l, err := store.OpenLog(context.Background(), db, store.Options{
		Rules:  event.Rules{{Match: "bench/**", Keep: event.Keep{Events: keep}}},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	check(err)
	return db, l
}

func fill(keep int64) {
	db, l := openLog(keep)
	start := time.Now()
	for have := int(l.Head().Seq); have < *events; have += 1000 {
		batch := make([]event.Event, 1000)
		for i := range batch {
			batch[i] = newEvent()
			batch[i].Topic = event.Topic(fmt.Sprintf("bench/%d", (have+i)%*topics))
			id, err := uuid.NewV7()
			check(err)
			batch[i].ID, batch[i].Time = id.String(), time.Now()
		}
		_, err := l.Append(context.Background(), []event.Batch{{Events: batch}})
		check(err)
		_, err = l.Maintain(context.Background(), false)
		check(err)
		if have%500_000 == 0 {
			fmt.Fprintf(os.Stderr, "filling: %d events after %v\n", have, time.Since(start).Round(time.Second))
		}
	}
	check(l.Close())
	check(db.Close())
}

// copyDB gives raw SQLite a log of the same size to write to.
func copyDB() {
	from, err := os.Open(filepath.Join(*dir, "chappe.db"))
	check(err)
	defer from.Close()
	to, err := os.Create(filepath.Join(*dir, "raw.db"))
	check(err)
	_, err = io.Copy(to, from)
	check(err)
	check(to.Sync())
	check(to.Close())
}

// rawSQLite writes the rows that an event is in the log, 256 a transaction,
// with plain prepared statements and the settings that the log has.
func rawSQLite() (rate float64) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(*dir, "raw.db")+
		"?_txlock=immediate&_pragma=synchronous(full)&_pragma=cache_size(-65536)&_pragma=journal_size_limit(67108864)")
	check(err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	var seq int64
	check(db.QueryRow(`SELECT MAX(seq) FROM events`).Scan(&seq))
	insertEvent, err := db.Prepare(`INSERT INTO events (seq, topic, prev, jump, ordinal, total, committed, time, id, source, type, subject, content_type, extensions, data) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`)
	check(err)
	insertSeen, err := db.Prepare(`INSERT INTO seen (seq, at, key) VALUES (?,?,?)`)
	check(err)
	start, n := time.Now(), 0
	for ; time.Since(start) < *length; n += 256 {
		tx, err := db.Begin()
		check(err)
		for range 256 {
			id, err := uuid.NewV7()
			check(err)
			seq++
			now := time.Now()
			_, err = tx.Stmt(insertEvent).Exec(seq, 1+rand.IntN(*topics), seq-1, seq-1, seq, seq*dataBytes, now.UnixMilli(), now.UnixMicro(), id.String(), "bench", "bench", "", "", "", data)
			check(err)
			_, err = tx.Stmt(insertSeen).Exec(seq, now.UnixMilli(), id[:])
			check(err)
		}
		check(tx.Commit())
	}
	return float64(n) / time.Since(start).Seconds()
}

type result struct {
	rate          float64
	p50, p99, max time.Duration
}

// publish has n publishers, each with one event in flight.
func publish(keep int64, n int, length time.Duration) result {
	db, l := openLog(keep)
	b, err := bus.New(context.Background(), l, bus.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	check(err)
	latencies := make([][]time.Duration, n)
	start := time.Now()
	var publishers sync.WaitGroup
	for i := range n {
		publishers.Go(func() {
			for time.Since(start) < length {
				began := time.Now()
				_, err := b.Publish(context.Background(), event.Batch{Events: []event.Event{newEvent()}})
				check(err)
				latencies[i] = append(latencies[i], time.Since(began))
			}
		})
	}
	publishers.Wait()
	took := time.Since(start)
	b.Close()
	check(l.Close())
	check(db.Close())
	return summary(latencies, took)
}

func summary(latencies [][]time.Duration, took time.Duration) result {
	all := slices.Concat(latencies...)
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))].Round(10 * time.Microsecond) }
	return result{float64(len(all)) / took.Seconds(), at(0.5), at(0.99), at(1)}
}
