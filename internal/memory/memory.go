// Package memory tells how near the process is to the memory it may use.
package memory

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Watch tells each second, until ctx ends, what share of GOMEMLIMIT is used:
// past it the collector would take the processor for itself. Without a limit
// it returns at once.
func Watch(ctx context.Context, tell func(share float64)) {
	limit := debug.SetMemoryLimit(-1) // only asks
	if limit == math.MaxInt64 {
		return
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			tell(float64(used()) / float64(limit))
		}
	}
}

// used is what GOMEMLIMIT counts, in bytes.
func used() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
