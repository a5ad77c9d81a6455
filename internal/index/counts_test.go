package index_test

import (
	"testing"

	"github.com/chappe/chappe/internal/index"
)

func TestCounts(t *testing.T) {
	var c index.Counts
	first, ok := c.Take('u', "alice", 2)
	second, more := c.Take('u', "alice", 2)
	if !ok || !more || first != second || first == 0 {
		t.Fatalf("Take = %d, %v and %d, %v, want the same number twice", first, ok, second, more)
	}
	if _, ok := c.Take('u', "alice", 2); ok {
		t.Error("a third was taken of two")
	}
	if i, ok := c.Take('t', "alice", 2); !ok || i == first {
		t.Errorf("of another kind: %d, %v, want a number of its own", i, ok)
	}
	c.Give(first)
	c.Give(0)
	if _, ok := c.Take('u', "alice", 2); !ok {
		t.Error("what was given back is not to be had")
	}
}
