package push

import (
	"strings"

	"github.com/chappe/chappe/event"
)

// trie finds the sessions that follow a topic. Each level is a segment.
type trie struct{ root node }

type node struct {
	next     map[string]*node // by segment; "*" and "**" are segments too
	sessions map[*session]struct{}
}

func (t *trie) add(p event.Pattern, s *session) {
	n := &t.root
	for segment := range strings.SplitSeq(string(p), "/") {
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
	if n.sessions == nil {
		n.sessions = map[*session]struct{}{}
	}
	n.sessions[s] = struct{}{}
}

func (t *trie) remove(p event.Pattern, s *session) { t.root.remove(string(p), s) }

// remove drops branches that became empty.
func (n *node) remove(p string, s *session) {
	segment, rest, more := strings.Cut(p, "/")
	child := n.next[segment]
	if child == nil {
		return
	}
	if more {
		child.remove(rest, s)
	} else {
		delete(child.sessions, s)
	}
	if len(child.sessions) == 0 && len(child.next) == 0 {
		delete(n.next, segment)
	}
}

// each calls do for each session that follows topic; for one that follows it
// by several patterns, several times.
func (t *trie) each(topic event.Topic, do func(*session)) { t.root.each(string(topic), do) }

func (n *node) each(topic string, do func(*session)) {
	if tail := n.next["**"]; tail != nil {
		tail.all(do)
	}
	segment, rest, more := strings.Cut(topic, "/")
	for _, child := range []*node{n.next[segment], n.next["*"]} {
		if child == nil {
			continue
		}
		if more {
			child.each(rest, do)
		} else {
			child.all(do)
		}
	}
}

func (n *node) all(do func(*session)) {
	for s := range n.sessions {
		do(s)
	}
}
