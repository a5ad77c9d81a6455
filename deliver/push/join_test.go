package push_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
)

// handed tells when a group was handed to all followers before it.
type handed chan struct{}

func (h handed) Committed([]*event.Record) { h <- struct{}{} }

// racingLog has an event come in between a session's first read and its joining.
type racingLog struct {
	event.Reader
	once *sync.Once
	race func()
}

func (l racingLog) Read(ctx context.Context, q event.Query) (event.Page, error) {
	page, err := l.Reader.Read(ctx, q)
	l.once.Do(l.race)
	return page, err
}

func TestJoiningMissesNothing(t *testing.T) {
	f := newFixture(t, push.Limits{})
	done := make(handed, 10)
	log := racingLog{Reader: f.bus, once: &sync.Once{}, race: func() {
		f.publish(t, "a", 1, 1)
		<-done
	}}
	f.hub = push.New(log, f.access, push.Options{Logger: slog.New(slog.DiscardHandler)})
	f.bus.Follow(f.hub)
	f.bus.Follow(done)
	f.server.Close()
	f.server = httptest.NewServer(handler(f.hub))
	t.Cleanup(f.server.Close)
	c := f.connect(t, dialSSE, request{topics: []string{"a"}})
	if m, err := c.next(); err != nil || m.Data != 1 {
		t.Errorf("next() = %+v, %v, want event 1", m, err)
	}
}
