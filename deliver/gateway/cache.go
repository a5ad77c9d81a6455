package gateway

import (
	"cmp"
	"errors"

	"github.com/chappe/chappe/event"
)

// CacheConfig bounds what all routes keep.
type CacheConfig struct {
	// Size is how much memory the answers may take; 64MiB if not given.
	Size event.ByteSize `yaml:"size"`
	// Object is how large one answer may be; 8MiB if not given. Larger ones are passed on.
	Object event.ByteSize `yaml:"object"`
	// Warm keeps the answers over a restart, in the data folder.
	Warm bool `yaml:"warm"`
}

// Validate checks the bounds.
func (c CacheConfig) Validate() error {
	if c.Size < 0 || c.Object < 0 || c.Size != 0 && c.Size < 1<<20 {
		return errors.New("size is at least 1MiB, and object not negative")
	}
	if c.Object > max(c.Size, defaultSize)/4 {
		return errors.New("object is above a quarter of size; raise size, or lower it")
	}
	return nil
}

const defaultSize = 64 << 20

func (c *CacheConfig) fill() {
	c.Size = cmp.Or(c.Size, defaultSize)
	c.Object = min(cmp.Or(c.Object, 8<<20), c.Size/4)
}
