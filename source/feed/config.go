package feed

import (
	"errors"
	"net/url"
)

// Config is the part of a watch that is for feeds.
type Config struct {
	// Feed is the address of an RSS, Atom, RDF or JSON feed.
	Feed string `yaml:"feed"`
}

// Validate checks the address.
func (c Config) Validate() error {
	if c.Feed == "" {
		return nil // another kind of watch
	}
	if u, err := url.Parse(c.Feed); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("feed is not an http:// or https:// address")
	}
	return nil
}
