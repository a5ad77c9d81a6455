package swarm

import (
	"encoding/binary"
	"errors"
)

// Opcodes of RFC 6455 §5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// statusTryLater is in the IANA WebSocket registry.
const statusTryLater = 1013

type frame struct {
	fin     bool
	op      byte
	payload []byte
}

var (
	errFrame    = errors.New("broken frame")
	errTooLarge = errors.New("message too large")
)

// nextFrame reads what b begins with, a frame as a server sends it. A size of
// 0 says that it is not whole yet.
func nextFrame(b []byte, limit int) (f frame, size int, err error) {
	if len(b) < 2 {
		return f, 0, nil
	}
	f.fin, f.op = b[0]&0x80 != 0, b[0]&0xf
	// RFC 6455 §5.1, §5.2: a server does not mask; no extension was agreed on.
	if b[0]&0x70 != 0 || b[1]&0x80 != 0 {
		return f, 0, errFrame
	}
	length, head := uint64(b[1]), 2
	switch length {
	case 126:
		head = 4
	case 127:
		head = 10
	}
	if len(b) < head {
		return f, 0, nil
	}
	switch head {
	case 4:
		length = uint64(binary.BigEndian.Uint16(b[2:]))
	case 10:
		length = binary.BigEndian.Uint64(b[2:])
	}
	if f.op >= opClose && (length > 125 || !f.fin) { // RFC 6455 §5.5
		return f, 0, errFrame
	}
	if length > uint64(limit) {
		return f, 0, errTooLarge
	}
	size = head + int(length)
	if len(b) < size {
		return f, 0, nil
	}
	f.payload = b[head:size]
	return f, size, nil
}

// appendFrame appends a frame as a client sends it: whole and masked.
func appendFrame(b []byte, op byte, payload []byte, mask uint32) []byte {
	b = append(b, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	var key [4]byte
	binary.BigEndian.PutUint32(key[:], mask)
	b = append(b, key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i&3])
	}
	return b
}

// States of a body whose end can be told: chunked (RFC 9112 §7.1), or of a
// length that is known.
const (
	chunkSize = iota
	chunkExtension
	chunkData
	chunkEnd // its CR LF
	bodyData
	bodyOver
)

// unframe takes the framing out of b, in place, and returns what is left.
// Trailers are dropped.
func (c *conn) unframe(b []byte) ([]byte, error) {
	out := b[:0]
	for len(b) > 0 {
		switch c.chunkState {
		case chunkData, bodyData:
			n := min(len(b), int(c.chunk))
			out = append(out, b[:n]...)
			b = b[n:]
			if c.chunk -= uint32(n); c.chunk == 0 {
				c.chunkState++ // chunkEnd, bodyOver
			}
			continue
		case bodyOver:
			return out, nil
		}
		if err := c.chunkHead(b[0]); err != nil {
			return nil, err
		}
		b = b[1:]
	}
	return out, nil
}

func (c *conn) chunkHead(b byte) error {
	digit := hexDigit(b)
	switch {
	case c.chunkState == chunkEnd:
		if b == '\n' {
			c.chunkState = chunkSize
		}
	case b == '\n':
		c.chunkState = chunkData
		if c.chunk == 0 {
			c.chunkState = bodyOver
		}
	case c.chunkState == chunkExtension:
	case digit >= 0:
		if c.chunk >= 1<<26 {
			return errTooLarge
		}
		c.chunk = c.chunk<<4 | uint32(digit)
	case b == ';' || b == '\r' || b == ' ':
		c.chunkState = chunkExtension
	default:
		return errFrame
	}
	return nil
}

func hexDigit(b byte) int {
	switch {
	case b >= '0' && b <= '9':
		return int(b - '0')
	case b >= 'a' && b <= 'f':
		return int(b-'a') + 10
	case b >= 'A' && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}
