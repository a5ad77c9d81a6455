// Package slab keeps many small things of one type in few large allocations.
//
// Things are named by an index instead of a pointer, so that a million of them
// cost the garbage collector nothing where the type has no pointers, and a
// freed place is taken again before memory grows. Chunks are never moved: a
// pointer from At is good until the thing is removed.
package slab

const chunk = 256 // things an allocation

// Slab is not safe for use by several goroutines. The zero Slab is empty.
type Slab[T any] struct {
	chunks []*[chunk]T
	free   []uint32
	used   uint32 // indexes given out so far; 0 is never one
}

// Add makes a place, holding the zero T, and returns its index, never 0.
func (s *Slab[T]) Add() uint32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	if s.used++; int(s.used)/chunk >= len(s.chunks) {
		s.chunks = append(s.chunks, new([chunk]T))
	}
	return s.used
}

// At is the thing at an index that Add returned.
func (s *Slab[T]) At(i uint32) *T { return &s.chunks[i/chunk][i%chunk] }

// Has reports whether Add ever returned i; it may have been removed since.
func (s *Slab[T]) Has(i uint32) bool { return i != 0 && i <= s.used }

// Remove clears the place at i for another.
func (s *Slab[T]) Remove(i uint32) {
	var zero T
	*s.At(i) = zero
	s.free = append(s.free, i)
}

// Len is how many there are.
func (s *Slab[T]) Len() int { return int(s.used) - len(s.free) }

// All calls do for each index given out, also for those removed since: these
// hold the zero T.
func (s *Slab[T]) All(do func(i uint32, t *T) bool) {
	for i := uint32(1); i <= s.used; i++ {
		if !do(i, s.At(i)) {
			return
		}
	}
}
