package ws

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// unmask lifts the mask from b, eight bytes at a time (RFC 6455 §5.3), and
// returns the key as it is for the byte after b.
func unmask(b []byte, key uint32) uint32 {
	wide := uint64(key)<<32 | uint64(key)
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(key)
		key = bits.RotateLeft32(key, -8)
	}
	return key
}

// textCheck validates UTF-8 that comes in pieces, as early as its bytes show
// a fault.
type textCheck struct {
	tail    [utf8.UTFMax]byte // a rune's beginning
	tailLen int
}

// whole reports whether no rune is unfinished.
func (c *textCheck) whole() bool { return c.tailLen == 0 }

// add reports whether the text can still become valid after p.
func (c *textCheck) add(p []byte) bool {
	for c.tailLen > 0 && len(p) > 0 {
		c.tail[c.tailLen] = p[0]
		c.tailLen++
		p = p[1:]
		if !utf8.FullRune(c.tail[:c.tailLen]) { // a broken one is full
			continue
		}
		if !utf8.Valid(c.tail[:c.tailLen]) {
			return false
		}
		c.tailLen = 0
	}
	p, rest := cutUnfinished(p)
	if len(rest) > 0 {
		c.tailLen = copy(c.tail[:], rest)
	}
	return utf8.Valid(p)
}

// cutUnfinished cuts off a rune that has begun at p's end and may go on.
func cutUnfinished(p []byte) (whole, rest []byte) {
	for i := len(p) - 1; i >= 0 && i > len(p)-utf8.UTFMax; i-- {
		if !utf8.RuneStart(p[i]) {
			continue
		}
		if !utf8.FullRune(p[i:]) {
			return p[:i], p[i:]
		}
		break
	}
	return p, nil
}
