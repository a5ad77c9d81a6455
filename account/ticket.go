package account

import (
	"crypto/sha256"
	"sync"
	"time"
)

// Bounds of tickets.
const (
	ticketIdle = 10 * time.Minute // after its last session ended
	maxTickets = 100_000
)

// Tickets are what EventSource and plain WebSocket show in their URL, since
// they cannot set headers: short-lived, in memory, for the topics of whoever
// asked for one. The zero Tickets is ready.
type Tickets struct {
	mu      sync.Mutex
	tickets map[[sha256.Size]byte]*ticket
	swept   time.Time
}

type ticket struct {
	identity *Identity
	sessions int
	ends     time.Time // while it has no session
}

// Issue makes a ticket for id, and says until when it must be used.
func (ts *Tickets) Issue(id *Identity) (secret string, use time.Time, err error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	now := time.Now()
	ts.sweep(now)
	if len(ts.tickets) >= maxTickets {
		return "", time.Time{}, refuse("too-many-tickets", "there are %d tickets already; ask again in a minute", maxTickets)
	}
	secret = randomText(24)
	use = now.Add(ticketIdle)
	if !id.Expires.IsZero() && id.Expires.Before(use) {
		use = id.Expires
	}
	if ts.tickets == nil {
		ts.tickets = map[[sha256.Size]byte]*ticket{}
	}
	ts.tickets[sha256.Sum256([]byte(secret))] = &ticket{identity: id.reader(), ends: use}
	return secret, use, nil
}

// Open returns whose ticket it is and counts a session of it until done is
// called, or an *AuthError.
func (ts *Tickets) Open(secret string) (id *Identity, done func(), err error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.tickets[sha256.Sum256([]byte(secret))]
	if t == nil || t.over(time.Now()) {
		return nil, nil, refuse("ticket-invalid", "the ticket is unknown or has ended; ask for a new one at /v1/tickets")
	}
	t.sessions++
	return t.identity, sync.OnceFunc(func() {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		t.sessions--
		t.ends = time.Now().Add(ticketIdle)
	}), nil
}

func (t *ticket) over(now time.Time) bool {
	expired := !t.identity.Expires.IsZero() && now.After(t.identity.Expires)
	return expired || t.sessions == 0 && now.After(t.ends)
}

// sweep drops tickets that have ended, once a minute.
func (ts *Tickets) sweep(now time.Time) {
	if now.Sub(ts.swept) < time.Minute && len(ts.tickets) < maxTickets {
		return
	}
	ts.swept = now
	for hash, t := range ts.tickets {
		if t.over(now) {
			delete(ts.tickets, hash)
		}
	}
}
