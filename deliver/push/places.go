package push

import (
	"net/netip"
	"sync"
	"unsafe"

	"github.com/chappe/chappe/event"
)

// places counts the sessions of the whole process against the limits.
type places struct {
	limits Limits

	mu       sync.Mutex
	taken    int
	holders  names[int32] // sessions by address and by user
	key      []byte       // scratch
	draining bool
	emptied  chan struct{} // closed when draining and the last has left
}

// place is what a session holds: numbers of holders, 0 for none.
type place struct{ address, user uint32 }

// errFull refuses a session for now.
type errFull struct{ what string }

func (e errFull) Error() string {
	return "there are as many sessions as " + e.what + " allows; come back later"
}
func (e errFull) Code() string { return "too-many-sessions" }

// enter takes a place, or says which limit is reached.
func (p *places) enter(address netip.Addr, user string) (place, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining {
		return place{}, event.ErrClosed
	}
	if p.taken >= p.limits.Connections {
		return place{}, errFull{"limits.connections"}
	}
	raw := address.As16()
	byAddress, ok := p.take('a', raw[:], p.limits.PerAddress)
	if !ok {
		return place{}, errFull{"limits.per_address"}
	}
	if user == "" {
		p.taken++
		return place{address: byAddress}, nil
	}
	byUser, ok := p.take('u', []byte(user), p.limits.PerUser)
	if !ok {
		p.give(byAddress)
		return place{}, errFull{"limits.per_user"}
	}
	p.taken++
	return place{byAddress, byUser}, nil
}

// enterUser has a session that is there count for its user too.
func (p *places) enterUser(held *place, user string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if user == "" || held.user != 0 {
		return nil
	}
	var ok bool
	if held.user, ok = p.take('u', []byte(user), p.limits.PerUser); !ok {
		return errFull{"limits.per_user"}
	}
	return nil
}

func (p *places) take(kind byte, who []byte, limit int) (uint32, bool) {
	p.key = append(append(p.key[:0], kind), who...)
	i := p.holders.add(unsafe.String(unsafe.SliceData(p.key), len(p.key)))
	count := p.holders.at(i)
	if int(*count) >= limit {
		return 0, false
	}
	*count++
	return i, true
}

func (p *places) give(i uint32) {
	if i == 0 {
		return
	}
	count := p.holders.at(i)
	if *count--; *count <= 0 {
		p.holders.remove(i)
	}
}

// leave gives a place back.
func (p *places) leave(held place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.give(held.address)
	p.give(held.user)
	if p.taken--; p.taken == 0 && p.draining {
		close(p.emptied)
	}
}

// close lets nobody in any more; the channel is closed when all have left.
func (p *places) close() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.draining {
		p.draining, p.emptied = true, make(chan struct{})
		if p.taken == 0 {
			close(p.emptied)
		}
	}
	return p.emptied
}

// open is how many sessions there are.
func (p *places) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}
