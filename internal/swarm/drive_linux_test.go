package swarm_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chappe/chappe/internal/swarm"
)

// What is published comes to all; what does not come ends it, and so does a
// publish that fails.
func TestFanout(t *testing.T) {
	var mu sync.Mutex
	var send []func(string)
	ctx, s := dial(t, swarm.Options{Count: 2, Greeted: true}, func(w http.ResponseWriter, r *http.Request) {
		conn := upgrade(w, r)
		text(conn, hello)
		mu.Lock()
		defer mu.Unlock()
		send = append(send, func(m string) { text(conn, m) })
	})
	wait(ctx, t, s, "connect", func(c swarm.Counts) bool { return c.Live == 2 })
	to := 2 // how many get it
	f := swarm.Fanout{
		Messages: 3, Size: 100, Lost: 10 * time.Second, Watch: func(int, swarm.Counts, int) {},
		Publish: func(_ context.Context, data []byte) error {
			mu.Lock()
			defer mu.Unlock()
			for _, send := range send[:to] {
				send(string(data))
			}
			return nil
		},
	}
	if published, all, err := s.Fanout(ctx, f); published != 3 || all != 6 || err != nil {
		t.Errorf("Fanout = %d, %d, %v, want all 3 to 2", published, all, err)
	}
	s.Mark()
	to, f.Lost = 1, 50*time.Millisecond
	published, all, err := s.Fanout(ctx, f)
	if published != 1 || all != 2 || err == nil || !strings.Contains(err.Error(), "message 1 has not come to all within 50ms") {
		t.Errorf("Fanout = %d, %d, %v, want the first lost", published, all, err)
	}
	refused := errors.New("refused")
	f.Publish = func(context.Context, []byte) error { return refused }
	if published, all, err = s.Fanout(ctx, f); published != 0 || all != 0 || !errors.Is(err, refused) {
		t.Errorf("Fanout = %d, %d, %v, want that it was refused", published, all, err)
	}
}
