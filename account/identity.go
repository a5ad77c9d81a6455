package account

import (
	"slices"
	"time"

	"github.com/chappe/chappe/event"
)

// Identity is who asks and what they may do. The zero Identity is anonymous.
// Requests share one, so it is not to be changed.
type Identity struct {
	Name    string    // an API token's name, or the User
	User    string    // a subscriber's sub, or the hook's user; empty for programs, guests and anonymous
	Expires time.Time // zero: never

	scopes   []Scope
	patterns []event.Pattern // may be read, and published to with the scope; none is all for programs
	channels []event.Pattern // of them, those that a token names in Centrifugo's word
	program  bool
}

// Channels are the topics that a Centrifuge client is subscribed to without asking.
func (id *Identity) Channels() []event.Pattern { return id.channels }

// Known reports whether a credential was shown. A guest of the application has
// no name, but topics.
func (id *Identity) Known() bool { return id.program || id.User != "" || len(id.patterns) > 0 }

// reader is the identity with no more than its right to read.
func (id *Identity) reader() *Identity {
	reader := *id
	reader.scopes = nil
	if id.May(ScopeRead) {
		reader.scopes = []Scope{ScopeRead}
	}
	return &reader
}

// May reports whether the identity has the scope. Subscribers only read.
func (id *Identity) May(s Scope) bool {
	return id.program && (slices.Contains(id.scopes, s) || slices.Contains(id.scopes, ScopeAdmin))
}

// MayRead reports whether all topics of p may be read. Public topics are for
// the rules to say.
func (id *Identity) MayRead(p event.Pattern) bool {
	if id.program && !id.May(ScopeRead) {
		return false
	}
	return id.covers(p)
}

// MayPublish reports whether t may be published to.
func (id *Identity) MayPublish(t event.Topic) bool {
	return id.May(ScopePublish) && id.covers(event.Pattern(t))
}

func (id *Identity) covers(p event.Pattern) bool {
	if id.program && len(id.patterns) == 0 {
		return true
	}
	for _, own := range id.patterns {
		if own.Covers(p) {
			return true
		}
	}
	return false
}
