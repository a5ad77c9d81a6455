package index_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/chappe/chappe/internal/index"
)

// Names behave as a map does, whatever is added and removed in what order.
func TestNames(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var n index.Names[int]
	want := map[string]uint32{}
	for step := range 50_000 {
		name := fmt.Sprint("name ", random.IntN(500))
		switch i := n.Find(name); {
		case i != want[name]:
			t.Fatalf("Find(%q) = %d, want %d", name, i, want[name])
		case i == 0:
			i = n.Add(name)
			*n.At(i) = step
			want[name] = i
		case random.IntN(2) == 0:
			if again := n.Add(name); again != i || n.Name(i) != name {
				t.Fatalf("Add(%q) = %d (%q), want the %d it has", name, again, n.Name(i), i)
			}
		default:
			n.Remove(i)
			delete(want, name)
		}
		if n.Len() != len(want) {
			t.Fatalf("there are %d names, want %d", n.Len(), len(want))
		}
	}
	for name, i := range want {
		if n.Find(name) != i {
			t.Errorf("Find(%q) = %d at the end, want %d", name, n.Find(name), i)
		}
	}
}
