package backoff_test

import (
	"testing"
	"time"

	"github.com/chappe/chappe/internal/backoff"
)

func TestNext(t *testing.T) {
	const odd = 1<<40 + 1<<10 // nanoseconds; doubled 24 times it is small again
	tests := []struct {
		name        string
		first, most time.Duration
		tries       int // before
		want        time.Duration
	}{
		{"first", time.Second, time.Minute, 0, time.Second},
		{"doubled", time.Second, time.Minute, 1, 2 * time.Second},
		{"doubled again", time.Second, time.Minute, 5, 32 * time.Second},
		{"bounded", time.Second, time.Minute, 6, time.Minute},
		{"after very many", time.Second, time.Minute, 1000, time.Minute},
		{"first above the bound", time.Hour, time.Minute, 0, time.Minute},
		{"beyond what a Duration holds", odd, 24 * time.Hour, 24, 24 * time.Hour},
		{"no wait", 0, 0, 3, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			differ := map[time.Duration]bool{}
			for range 200 {
				b := backoff.Backoff{First: tt.first, Most: tt.most}
				for range tt.tries {
					b.Next()
				}
				got := b.Next()
				if got < tt.want/10 || got > tt.want {
					t.Fatalf("Next = %v, want %v to %v", got, tt.want/10, tt.want)
				}
				differ[got] = true
			}
			if tt.want > 0 && len(differ) < 100 {
				t.Errorf("of 200 waits %d differ, want jitter", len(differ))
			}
		})
	}
}

func TestReset(t *testing.T) {
	b := backoff.Backoff{First: time.Second, Most: time.Hour}
	for range 10 {
		b.Next()
	}
	b.Reset()
	if got := b.Next(); got > time.Second {
		t.Errorf("Next after Reset = %v, want at most %v", got, time.Second)
	}
}
