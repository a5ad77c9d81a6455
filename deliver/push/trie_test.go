package push

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/chappe/chappe/event"
)

// The trie finds the sessions whose patterns match, no others, and forgets.
func TestTrieMatchesAsPatterns(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	path := func(segments []string) []string {
		p := make([]string, 1+random.IntN(4))
		for i := range p {
			p[i] = segments[random.IntN(len(segments))]
		}
		return p
	}
	var tr trie
	kept := map[*session]event.Pattern{}
	for range 20_000 {
		switch random.IntN(3) {
		case 0:
			p := path([]string{"a", "b", "c", "*"})
			if random.IntN(3) == 0 {
				p[len(p)-1] = "**"
			}
			s := &session{}
			kept[s] = event.Pattern(strings.Join(p, "/"))
			tr.add(kept[s], s)
		case 1:
			for s, p := range kept { // any
				tr.remove(p, s)
				delete(kept, s)
				break
			}
		case 2:
			topic := event.Topic(strings.Join(path([]string{"a", "b", "c"}), "/"))
			found := map[*session]bool{}
			tr.each(topic, func(s *session) {
				if found[s] {
					t.Errorf("%s found a session with %s twice", topic, kept[s])
				}
				found[s] = true
			})
			for s, p := range kept {
				if p.Matches(topic) != found[s] {
					t.Fatalf("%s: session with %s found: %v, want %v", topic, p, found[s], !found[s])
				}
				delete(found, s)
			}
			if len(found) > 0 {
				t.Fatalf("%s found %d sessions that were removed", topic, len(found))
			}
		}
	}
	for _, s := range slices.Collect(maps.Keys(kept)) {
		tr.remove(kept[s], s)
	}
	if len(tr.root.next) != 0 {
		t.Errorf("%d branches stay when all sessions have left", len(tr.root.next))
	}
}
