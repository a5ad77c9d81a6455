package waitlist_test

import (
	"testing"

	"github.com/chappe/chappe/internal/waitlist"
)

func TestCrowd(t *testing.T) {
	c := waitlist.Crowd[string]{Most: 2}
	if !c.Enter("a") || !c.Enter("b") || c.Enter("c") || c.Len() != 2 {
		t.Errorf("%d entered, want 2 of 3", c.Len())
	}
	if !c.Has("a") || c.Has("c") {
		t.Error("it is wrong about who waits")
	}
	c.Leave("a")
	if c.Has("a") || c.Len() != 1 || !c.Enter("b") {
		t.Error("who left is still there")
	}
	c.Leave("b")
	if !c.Has("b") {
		t.Error("one of two left, and both are gone")
	}
}
