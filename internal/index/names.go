package index

import (
	"hash/maphash"

	"github.com/chappe/chappe/internal/slab"
)

// Names numbers strings, each with a value: a hash table of a few bytes a name
// and without pointers to follow. The zero Names is empty.
type Names[T any] struct {
	entries slab.Slab[named[T]]
	index   []uint32 // open addressing, a power of two, at most three quarters full
	seed    maphash.Seed
}

type named[T any] struct {
	name  string
	hash  uint32
	value T
}

// Find returns the name's number, 0 if there is none.
func (n *Names[T]) Find(name string) uint32 {
	if len(n.index) == 0 {
		return 0
	}
	hash := n.hash(name)
	for at := n.home(hash); n.index[at] != 0; at = n.next(at) {
		if e := n.entries.At(n.index[at]); e.hash == hash && e.name == name {
			return n.index[at]
		}
	}
	return 0
}

// Add returns the name's number, making one if need be. It keeps no reference
// to name.
func (n *Names[T]) Add(name string) uint32 {
	if i := n.Find(name); i != 0 {
		return i
	}
	if 4*(n.entries.Len()+1) > 3*len(n.index) {
		n.grow()
	}
	i := n.entries.Add()
	e := n.entries.At(i)
	e.name, e.hash = string(append([]byte(nil), name...)), n.hash(name)
	n.put(i, e.hash)
	return i
}

// At is the value of a number.
func (n *Names[T]) At(i uint32) *T { return &n.entries.At(i).value }

func (n *Names[T]) Name(i uint32) string { return n.entries.At(i).name }

func (n *Names[T]) Len() int { return n.entries.Len() }

// Remove forgets the name and its number.
func (n *Names[T]) Remove(i uint32) {
	at := n.home(n.entries.At(i).hash)
	for n.index[at] != i {
		at = n.next(at)
	}
	n.entries.Remove(i)
	n.index[at] = 0
	// What follows without a gap may have been put there because at was taken.
	for next := n.next(at); n.index[next] != 0; next = n.next(next) {
		moved := n.index[next]
		n.index[next] = 0
		n.put(moved, n.entries.At(moved).hash)
	}
}

func (n *Names[T]) put(i, hash uint32) {
	at := n.home(hash)
	for n.index[at] != 0 {
		at = n.next(at)
	}
	n.index[at] = i
}

func (n *Names[T]) grow() {
	if len(n.index) == 0 {
		n.seed = maphash.MakeSeed()
	}
	old := n.index
	n.index = make([]uint32, max(16, 2*len(old)))
	for _, i := range old {
		if i != 0 {
			n.put(i, n.entries.At(i).hash)
		}
	}
}

func (n *Names[T]) hash(name string) uint32 { return uint32(maphash.String(n.seed, name)) }

func (n *Names[T]) home(hash uint32) uint32 { return hash & uint32(len(n.index)-1) }

func (n *Names[T]) next(at uint32) uint32 { return (at + 1) & uint32(len(n.index)-1) }
