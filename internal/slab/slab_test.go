package slab_test

import (
	"testing"

	"github.com/chappe/chappe/internal/slab"
)

func TestSlab(t *testing.T) {
	var s slab.Slab[int]
	const n = 1000
	places := map[uint32]int{}
	for v := range n {
		i := s.Add()
		if _, taken := places[i]; taken || i == 0 {
			t.Fatalf("Add returned %d, which is 0 or taken", i)
		}
		*s.At(i) = v
		places[i] = v
	}
	for i, v := range places {
		if *s.At(i) != v {
			t.Errorf("At(%d) = %d, want %d", i, *s.At(i), v)
		}
		if v%2 == 0 {
			s.Remove(i)
		}
	}
	if got := s.Len(); got != n/2 {
		t.Errorf("Len() = %d, want %d", got, n/2)
	}
	for range n / 2 {
		i := s.Add()
		if *s.At(i) != 0 || !s.Has(i) || i > n {
			t.Errorf("a removed place %d came back holding %d; none beyond %d was needed", i, *s.At(i), n)
		}
	}
	if s.Has(0) || s.Has(n+1) {
		t.Error("Has knows an index that was never given out")
	}
	seen := 0
	s.All(func(uint32, *int) bool { seen++; return seen < 10 })
	if seen != 10 {
		t.Errorf("All went on to %d things after it was told to stop at 10", seen)
	}
}
