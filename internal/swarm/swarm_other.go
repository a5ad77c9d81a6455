//go:build !linux

package swarm

import (
	"context"
	"errors"
)

// Swarm is a number of connections, on Linux.
type Swarm struct{}

var errNotLinux = errors.New("swarm: this needs Linux")

// Dial says that it needs Linux.
func Dial(context.Context, Options) (*Swarm, error) { return nil, errNotLinux }

// Close does nothing.
func (*Swarm) Close() {}

// Counts are none.
func (*Swarm) Counts() Counts { return Counts{} }

// Wait does not.
func (*Swarm) Wait(context.Context, func(Counts) bool) error { return errNotLinux }

// Stats are none.
func (*Swarm) Stats() Stats { return Stats{} }

// Mark does nothing.
func (*Swarm) Mark() {}

// Clients are none.
func (*Swarm) Clients() []Client { return nil }

// Send does nothing.
func (*Swarm) Send([]byte) int { return 0 }

// Wire counts nothing.
func (*Swarm) Wire() (bytes uint64, connections int, err error) { return 0, 0, errNotLinux }
