package main

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// watchMemory has the server shed load before it reaches GOMEMLIMIT, where
// there is one: past it the collector would take the processor for itself.
func (srv *server) watchMemory(ctx context.Context) {
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
			srv.hub.Relieve(float64(memoryUsed())/float64(limit), func() {
				srv.bus.Shed()
				debug.FreeOSMemory()
			})
		}
	}
}

// memoryUsed is what GOMEMLIMIT counts, in bytes.
func memoryUsed() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
