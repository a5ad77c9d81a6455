package swarm

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets that are 3 % wide. The zero value is
// empty.
type Histogram struct {
	counts [1888]uint64
	total  uint64
	max    time.Duration
}

// Record adds one; less than nothing counts as nothing.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// Merge adds all of o.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
	h.max = max(h.max, o.max)
}

// Count is how many were recorded.
func (h *Histogram) Count() uint64 { return h.total }

// Max is the longest.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is what the share q, from 0 to 1, of the durations did not exceed,
// at most 3 % too long.
func (h *Histogram) Quantile(q float64) time.Duration {
	left := max(0, int64(q*float64(h.total)+0.5)-1)
	for i, n := range h.counts {
		if left -= int64(n); left < 0 {
			return min(top(i), h.max)
		}
	}
	return h.max
}

// bucket has 32 buckets for each power of two.
func bucket(v uint64) int {
	if v < 32 {
		return int(v)
	}
	e := bits.Len64(v) - 6
	return e*32 + int(v>>e)
}

// top is the longest duration of a bucket.
func top(i int) time.Duration {
	if i < 64 {
		return time.Duration(i)
	}
	e := i/32 - 1
	return time.Duration((i-e*32+1)<<e - 1)
}

// mostIn is the largest sum of so many slots in a row.
func mostIn(slots []uint32, window int) int {
	most, sum := 0, 0
	for i, n := range slots {
		sum += int(n)
		if i >= window {
			sum -= int(slots[i-window])
		}
		most = max(most, sum)
	}
	return most
}
