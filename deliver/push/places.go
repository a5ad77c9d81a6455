package push

import (
	"net/netip"
	"sync"
	"unsafe"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/index"
)

// places counts the sessions of the whole process against the limits.
type places struct {
	limits Limits

	mu       sync.Mutex
	taken    int
	holders  index.Counts // of sessions: addresses, users and API tokens
	refusing bool         // memory is short
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
func (p *places) enter(address netip.Addr, id *account.Identity) (place, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining {
		return place{}, event.ErrClosed
	}
	if p.refusing {
		return place{}, errMemory
	}
	if p.taken >= p.limits.Connections {
		return place{}, errFull{"limits.connections"}
	}
	raw := address.As16()
	byAddress, ok := p.holders.Take('a', unsafe.String(&raw[0], len(raw)), p.limits.PerAddress)
	if !ok {
		return place{}, errFull{"limits.per_address"}
	}
	byUser, err := p.takeUser(id)
	if err != nil {
		p.holders.Give(byAddress)
		return place{}, err
	}
	p.taken++
	return place{byAddress, byUser}, nil
}

// takeUser counts a session for its user, or for its API token.
func (p *places) takeUser(id *account.Identity) (uint32, error) {
	kind, name, most, limit := byte('u'), id.User, p.limits.PerUser, "limits.per_user"
	if name == "" {
		kind, name, most, limit = 't', id.Name, p.limits.PerToken, "limits.per_token"
	}
	if name == "" {
		return 0, nil
	}
	i, ok := p.holders.Take(kind, name, most)
	if !ok {
		return 0, errFull{limit}
	}
	return i, nil
}

// enterUser has a session that is there count for its user too.
func (p *places) enterUser(held *place, id *account.Identity) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if held.user == 0 {
		held.user, err = p.takeUser(id)
	}
	return err
}

// leave gives a place back.
func (p *places) leave(held place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holders.Give(held.address)
	p.holders.Give(held.user)
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

// refuse has nobody let in, or everybody again.
func (p *places) refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusing = on
}

// open is how many sessions there are.
func (p *places) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}
