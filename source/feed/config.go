package feed

import (
	"errors"
	"net/url"
	"time"
)

// Config is the part of a watch that is for feeds.
type Config struct {
	// Feed is the address of an RSS, Atom, RDF or JSON feed.
	Feed string `yaml:"feed"`
	// Every is how often it is asked for: 15m if not given, never below 5m on
	// public addresses; on private ones 10s if not given.
	Every time.Duration `yaml:"every"`
	// Backfill is how many of the entries that are there at the first reading are reported.
	Backfill int `yaml:"backfill"`
}

// Validate checks the address.
func (c Config) Validate() error {
	if c.Feed == "" {
		return nil // another kind of watch
	}
	u, err := url.Parse(c.Feed)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("feed is not an http:// or https:// address")
	case c.Every < 0 || c.Backfill < 0:
		return errors.New("every and backfill cannot be negative")
	}
	return nil
}
