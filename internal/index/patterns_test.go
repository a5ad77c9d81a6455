package index_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/index"
)

// Patterns find those that match, no others, and forget.
func TestPatterns(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	path := func(segments []string) []string {
		p := make([]string, 1+random.IntN(4))
		for i := range p {
			p[i] = segments[random.IntN(len(segments))]
		}
		return p
	}
	var ts index.Patterns[int]
	kept := map[uint32]event.Pattern{}
	for range 20_000 {
		switch random.IntN(3) {
		case 0:
			p := path([]string{"a", "b", "c", "*"})
			if random.IntN(3) == 0 {
				p[len(p)-1] = "**"
			}
			pattern := event.Pattern(strings.Join(p, "/"))
			i := ts.Add(string(pattern))
			if known, ok := kept[i]; ok && known != pattern {
				t.Fatalf("%s has the number of %s", pattern, known)
			}
			kept[i] = pattern
		case 1:
			for i := range kept { // any
				ts.Remove(i)
				delete(kept, i)
				break
			}
		case 2:
			topic := event.Topic(strings.Join(path([]string{"a", "b", "c"}), "/"))
			found := map[uint32]bool{}
			ts.Each(string(topic), func(i uint32) {
				if found[i] {
					t.Errorf("%s found %s twice", topic, kept[i])
				}
				found[i] = true
			})
			for i, p := range kept {
				if p.Matches(topic) != found[i] {
					t.Fatalf("%s: %s found: %v, want %v", topic, p, found[i], !found[i])
				}
				delete(found, i)
			}
			if len(found) > 0 {
				t.Fatalf("%s found %d patterns that were removed", topic, len(found))
			}
		}
	}
	for _, i := range slices.Collect(maps.Keys(kept)) {
		ts.Remove(i)
	}
	if ts.Len() != 0 {
		t.Errorf("%d names stay when all patterns are removed", ts.Len())
	}
}
