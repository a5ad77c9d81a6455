package push

import (
	"strings"

	"github.com/chappe/chappe/event"
)

// topics finds who follows a topic. Each pattern has the list of its members:
// one for each reader that follows it.
type topics struct {
	patterns names[pattern]
	wild     node // the patterns that are no topics themselves
}

// pattern is a list of members.
type pattern struct {
	first uint32 // member
}

// member is one pattern that a reader follows.
type member struct {
	reader     uint32
	pattern    uint32
	next, prev uint32 // of the pattern
	sibling    uint32 // next of the reader
}

// add returns the number of a pattern.
func (t *topics) add(p event.Pattern) uint32 {
	i := t.patterns.find(string(p))
	if i == 0 {
		i = t.patterns.add(string(p))
		if !p.Literal() {
			t.wild.add(t.patterns.name(i), i)
		}
	}
	return i
}

// remove forgets a pattern that has no members.
func (t *topics) remove(i uint32) {
	if p := event.Pattern(t.patterns.name(i)); !p.Literal() {
		t.wild.remove(string(p))
	}
	t.patterns.remove(i)
}

// each calls do with the number of each pattern that matches the topic.
func (t *topics) each(topic event.Topic, do func(i uint32)) {
	if i := t.patterns.find(string(topic)); i != 0 {
		do(i)
	}
	if len(t.wild.next) > 0 {
		t.wild.each(string(topic), do)
	}
}

// node is a level of a trie of patterns; a level is a segment.
type node struct {
	next    map[string]*node // by segment; "*" and "**" are segments too
	pattern uint32           // that ends here; 0: none
}

func (n *node) add(p string, i uint32) {
	for segment := range strings.SplitSeq(p, "/") {
		child := n.next[segment]
		if child == nil {
			child = &node{}
			if n.next == nil {
				n.next = map[string]*node{}
			}
			n.next[segment] = child
		}
		n = child
	}
	n.pattern = i
}

// remove drops branches that became empty.
func (n *node) remove(p string) {
	segment, rest, more := strings.Cut(p, "/")
	child := n.next[segment]
	if child == nil {
		return
	}
	if more {
		child.remove(rest)
	} else {
		child.pattern = 0
	}
	if child.pattern == 0 && len(child.next) == 0 {
		delete(n.next, segment)
	}
}

func (n *node) each(topic string, do func(i uint32)) {
	if tail := n.next["**"]; tail != nil {
		tail.end(do)
	}
	segment, rest, more := strings.Cut(topic, "/")
	for _, child := range [...]*node{n.next[segment], n.next["*"]} {
		if child == nil {
			continue
		}
		if more {
			child.each(rest, do)
		} else {
			child.end(do)
		}
	}
}

func (n *node) end(do func(i uint32)) {
	if n.pattern != 0 {
		do(n.pattern)
	}
}
