package memory_test

import (
	"context"
	"math"
	"runtime/debug"
	"testing"
	"time"

	"github.com/chappe/chappe/internal/memory"
)

func TestWatch(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	memory.Watch(ctx, func(float64) { t.Error("a share of no limit was told") })
	if ctx.Err() != nil {
		t.Fatal("Watch waited although there is no limit")
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(1 << 30))
	var got float64
	memory.Watch(ctx, func(share float64) { got = share; cancel() })
	if got <= 0 || got >= 1 || math.IsNaN(got) {
		t.Errorf("the share of a gigabyte is %v, want one between 0 and 1", got)
	}
}
