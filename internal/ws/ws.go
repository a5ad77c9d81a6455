// Package ws is the WebSocket protocol of a server (RFC 6455, with the
// permessage-deflate of RFC 7692) without a connection: bytes in, messages
// out; messages in, bytes out. It never reads, writes, waits or starts a
// goroutine, so an event loop and a goroutine per connection can use it alike.
//
// A Reader takes the client's bytes in whatever pieces they come. Between two
// messages it holds nothing (Idle), so that its owner drops it or gives it to
// another connection: thousands of silent sessions cost nothing here.
//
// Promises: the same bytes give the same messages and the same error however
// they are cut. Memory grows with the bytes that came, never with a declared
// length, and ends at the limits. A fault is told as early as the bytes show
// it, except in compressed text, which is judged when it is whole. A whole
// frame costs no allocation and no copy.
//
// Left out: the upgrade's HTTP (but for AcceptKey, ValidKey and Extensions),
// deadlines, rate limits, the closing handshake, and context takeover, which
// would cost each session a window.
package ws

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"
)

// Op is what a frame is (RFC 6455 §5.2).
type Op byte

// The opcodes of RFC 6455 §11.8; the others are reserved.
const (
	OpContinuation Op = 0x0
	OpText         Op = 0x1
	OpBinary       Op = 0x2
	OpClose        Op = 0x8
	OpPing         Op = 0x9
	OpPong         Op = 0xA
)

func (o Op) isControl() bool { return o >= OpClose }

func (o Op) isReserved() bool { return o > OpPong || o > OpBinary && o < OpClose }

// The close codes that a Reader gives (RFC 6455 §7.4.1).
const (
	statusProtocolError  = 1002
	statusInvalidPayload = 1007
	statusPolicy         = 1008
	statusTooBig         = 1009
)

// CloseError ends a connection: what to send in the close frame.
type CloseError struct {
	Code   uint16
	Reason string // a constant sentence, short enough for the frame
}

func (e *CloseError) Error() string {
	return "websocket " + strconv.Itoa(int(e.Code)) + ": " + e.Reason
}

// The bits of a frame's first two bytes (RFC 6455 §5.2).
const (
	bitFinal   = 0x80
	bitRSV1    = 0x40
	bitsRSV    = 0x70
	bitMask    = 0x80
	lengthOf16 = 126 // the length follows in 16 bits
	lengthOf64 = 127

	maxControl = 125 // RFC 6455 §5.5
	maxHead    = 14
)

// AppendHeader appends the head of a final frame of length bytes, unmasked as
// a server's are (RFC 6455 §5.1).
func AppendHeader(dst []byte, op Op, length int) []byte {
	return appendHead(dst, bitFinal|byte(op), length)
}

func appendHead(dst []byte, first byte, length int) []byte {
	switch {
	case length < lengthOf16:
		return append(dst, first, byte(length))
	case length <= 0xFFFF:
		return binary.BigEndian.AppendUint16(append(dst, first, lengthOf16), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(dst, first, lengthOf64), uint64(length))
}

// AppendFrame appends payload as one final frame. A control frame's payload
// is at most 125 bytes: a ping's, given back as a pong, always is.
func AppendFrame(dst []byte, op Op, payload []byte) []byte {
	return append(AppendHeader(dst, op, len(payload)), payload...)
}

// AppendClose appends a close frame. The reason, UTF-8, is cut at a rune to
// the 123 bytes that it may have. Code 0 gives the frame without a code, the
// answer to one without.
func AppendClose(dst []byte, code uint16, reason string) []byte {
	if code == 0 {
		return AppendHeader(dst, OpClose, 0)
	}
	if cut := maxControl - 2; len(reason) > cut {
		for !utf8.RuneStart(reason[cut]) {
			cut--
		}
		reason = reason[:cut]
	}
	dst = AppendHeader(dst, OpClose, 2+len(reason))
	return append(binary.BigEndian.AppendUint16(dst, code), reason...)
}

// mayClose reports whether a close frame may carry code (RFC 6455 §7.4 and
// the registry that it opened: 1012 to 1014).
func mayClose(code uint16) bool {
	return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006) || code >= 3000 && code <= 4999
}
