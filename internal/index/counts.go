package index

import "unsafe"

// Counts counts by name. The zero Counts is empty.
type Counts struct {
	names Names[int32]
	key   []byte // scratch
}

// Take counts one more for who, of a kind, unless there are most already. It
// returns the number to Give back.
func (c *Counts) Take(kind byte, who string, most int) (uint32, bool) {
	c.key = append(append(c.key[:0], kind), who...)
	i := c.names.Add(unsafe.String(unsafe.SliceData(c.key), len(c.key)))
	count := c.names.At(i)
	if int(*count) >= most {
		return 0, false
	}
	*count++
	return i, true
}

// Give counts one less; for 0 nothing.
func (c *Counts) Give(i uint32) {
	if i == 0 {
		return
	}
	count := c.names.At(i)
	if *count--; *count <= 0 {
		c.names.Remove(i)
	}
}
