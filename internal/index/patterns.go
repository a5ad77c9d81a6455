package index

import "strings"

// Patterns numbers patterns, each with a value, and finds those that match a
// topic. Both are segments with "/" between; in a pattern "*" is any segment
// and a last "**" one or more. The zero Patterns is empty.
type Patterns[T any] struct {
	Names[T]
	wild node // those that are no topics themselves
}

// Add returns the number of a pattern, making one if need be.
func (p *Patterns[T]) Add(pattern string) uint32 {
	i := p.Find(pattern)
	if i == 0 {
		i = p.Names.Add(pattern)
		if isWild(pattern) {
			p.wild.add(p.Name(i), i)
		}
	}
	return i
}

// Remove forgets a pattern and its number.
func (p *Patterns[T]) Remove(i uint32) {
	if pattern := p.Name(i); isWild(pattern) {
		p.wild.remove(pattern)
	}
	p.Names.Remove(i)
}

// Each calls do with the number of each pattern that matches the topic.
func (p *Patterns[T]) Each(topic string, do func(i uint32)) {
	if i := p.Find(topic); i != 0 {
		do(i)
	}
	if len(p.wild.next) > 0 {
		p.wild.each(topic, do)
	}
}

func isWild(pattern string) bool { return strings.Contains(pattern, "*") }

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
