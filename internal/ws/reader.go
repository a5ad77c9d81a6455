package ws

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// Options are a connection's limits and what its handshake agreed on.
type Options struct {
	// MaxMessage is how many bytes a message may have, all its fragments
	// together, both as it comes and inflated. 0: 64 KiB.
	MaxMessage int
	// MaxFragments is how many frames a message may come in, empty ones
	// too. 0: 64.
	MaxFragments int
	// Deflate says that permessage-deflate was agreed on, without context
	// takeover on either side, as Extensions answers.
	Deflate bool
}

func (o Options) withDefaults() Options {
	if o.MaxMessage <= 0 {
		o.MaxMessage = 64 << 10
	}
	if o.MaxFragments <= 0 {
		o.MaxFragments = 64
	}
	return o
}

// Handler is told of what came. Payloads are valid during the call only.
// Returning false ends the reading: what follows is dropped.
type Handler interface {
	// Message is given a whole message, OpText (then it is UTF-8) or
	// OpBinary.
	Message(op Op, payload []byte) bool
	// Control is given OpPing, OpPong and OpClose, also between the
	// fragments of a message. A close is valid: empty, or a code and a
	// UTF-8 reason; after it the reading ends.
	Control(op Op, payload []byte) bool
}

// Sizes of the buffer for messages that come in pieces.
const (
	leastBuffer = 64
	keepBuffer  = 4 << 10 // a larger one is not kept for the next message
)

// Reader takes what a client sends, in whatever pieces, and gives whole
// messages. Its zero value has the default limits. It is for one goroutine at
// a time.
type Reader struct {
	options Options
	ended   bool  // nothing more is read
	err     error // why, when it was a fault

	head    [maxHead]byte
	headLen int // bytes of a head that is not whole yet
	frame   frame
	message message

	control    [maxControl]byte
	controlLen int // bytes of a control frame that is not whole yet
}

// frame is the frame being read; its head is whole.
type frame struct {
	open  bool
	final bool
	op    Op
	key   uint32 // of the mask; its lowest byte is for the next byte
	left  int    // bytes of payload to come
}

// message is the data message being read. While op is OpContinuation there is
// none.
type message struct {
	op         Op
	compressed bool
	fragments  int
	data       []byte // the payload held so far
	text       textCheck
}

// NewReader returns a Reader for a new connection.
func NewReader(o Options) *Reader { return &Reader{options: o} }

// Reset makes r ready for another connection. A small buffer is kept.
func (r *Reader) Reset(o Options) {
	*r = Reader{options: o, message: message{data: r.message.data}}
	r.message.clear()
}

// Idle reports whether r stands between two messages with nothing held, so
// that it can be dropped and a new one take its place. It never does after the
// end: a new one would read on.
func (r *Reader) Idle() bool {
	return !r.ended && r.headLen == 0 && !r.frame.open && r.message.op == OpContinuation
}

// Feed reads b and tells h of each message and control frame that is whole
// with it. It unmasks within b, so b's content is lost, and keeps no reference
// to it; h must not use r. The error is a *CloseError; once it came, Feed only
// repeats it. After a close frame or a handler's false, Feed drops what it is
// given.
func (r *Reader) Feed(b []byte, h Handler) error {
	for len(b) > 0 && !r.ended {
		if !r.frame.open {
			n, err := r.readHead(b)
			if err != nil {
				return r.fail(err)
			}
			b = b[n:]
			if !r.frame.open {
				return nil
			}
		}
		n := min(r.frame.left, len(b))
		more, err := r.readPayload(b[:n:n], h)
		if err != nil {
			return r.fail(err)
		}
		if !more {
			r.end(nil)
		}
		b = b[n:]
	}
	return r.err
}

func (r *Reader) fail(e *CloseError) error {
	r.end(e)
	return e
}

// end drops what is held: the connection may linger.
func (r *Reader) end(err error) {
	*r = Reader{options: r.options, ended: true, err: err}
}

// readHead reads a frame's head or a part of it and opens the frame when it is
// whole. It returns how many bytes of b belong to the head.
func (r *Reader) readHead(b []byte) (int, *CloseError) {
	have := r.headLen + copy(r.head[r.headLen:], b)
	if have < 2 {
		r.headLen = have
		return len(b), nil
	}
	if err := r.checkStart(r.head[0], r.head[1]); err != nil {
		return 0, err
	}
	size := headSize(r.head[1])
	if have < size {
		r.headLen = have
		return len(b), nil
	}
	length, err := r.payloadLength()
	if err != nil {
		return 0, err
	}
	n := size - r.headLen
	r.headLen = 0
	r.openFrame(length, binary.LittleEndian.Uint32(r.head[size-4:]))
	return n, nil
}

// headSize is the size of a masked frame's head by its second byte.
func headSize(second byte) int {
	switch second &^ bitMask {
	case lengthOf16:
		return 2 + 2 + 4
	case lengthOf64:
		return 2 + 8 + 4
	}
	return 2 + 4
}

// checkStart judges a frame by its first two bytes (RFC 6455 §5.2).
func (r *Reader) checkStart(first, second byte) *CloseError {
	op, inMessage := Op(first&0x0F), r.message.op != OpContinuation
	if op.isReserved() {
		return protocolError("the opcode is reserved")
	}
	// RFC 7692 §6: RSV1 stands on a message's first frame only.
	rsv, dataStart := first&bitsRSV, op == OpText || op == OpBinary
	if rsv != 0 && (rsv != bitRSV1 || !r.options.Deflate || !dataStart) {
		return protocolError("a reserved bit is set")
	}
	if second&bitMask == 0 { // RFC 6455 §5.1
		return protocolError("the frame is not masked")
	}
	switch {
	case op.isControl() && first&bitFinal == 0: // RFC 6455 §5.5
		return protocolError("the control frame is fragmented")
	case op.isControl() && second&^bitMask > maxControl:
		return protocolError("the control frame has more than 125 bytes")
	case op == OpContinuation && !inMessage: // RFC 6455 §5.4
		return protocolError("there is no message to continue")
	case dataStart && inMessage:
		return protocolError("the message before is not finished")
	}
	// A policy, not a size: the fragments may be empty.
	if op == OpContinuation && r.message.fragments >= r.options.withDefaults().MaxFragments {
		return &CloseError{statusPolicy, "the message has too many fragments"}
	}
	return nil
}

// payloadLength is what the whole head declares, within the limits.
func (r *Reader) payloadLength() (int, *CloseError) {
	var length, least uint64 // RFC 6455 §5.2: the minimal number of bytes
	switch code := r.head[1] &^ bitMask; code {
	case lengthOf16:
		length, least = uint64(binary.BigEndian.Uint16(r.head[2:])), lengthOf16
	case lengthOf64:
		length, least = binary.BigEndian.Uint64(r.head[2:]), math.MaxUint16+1
	default:
		length = uint64(code)
	}
	if length < least {
		return 0, protocolError("the length is not in its shortest form")
	}
	if length > math.MaxInt64 {
		return 0, protocolError("the length has its highest bit set")
	}
	room := r.options.withDefaults().MaxMessage - len(r.message.data)
	if isData := !Op(r.head[0] & 0x0F).isControl(); isData && length > uint64(room) {
		return 0, errTooBig
	}
	return int(length), nil
}

func (r *Reader) openFrame(length int, key uint32) {
	first := r.head[0]
	r.frame = frame{open: true, final: first&bitFinal != 0, op: Op(first & 0x0F), key: key, left: length}
	switch r.frame.op {
	case OpText, OpBinary:
		r.message.op, r.message.compressed = r.frame.op, first&bitRSV1 != 0
		r.message.fragments = 1
	case OpContinuation:
		r.message.fragments++
	}
}

// readPayload reads a piece of the open frame's payload: all of it that is
// there.
func (r *Reader) readPayload(piece []byte, h Handler) (more bool, err *CloseError) {
	r.frame.key = unmask(piece, r.frame.key)
	r.frame.left -= len(piece)
	r.frame.open = r.frame.left > 0
	if r.frame.op.isControl() {
		return r.readControl(piece, h)
	}
	m := &r.message
	if m.op == OpText && !m.compressed && !m.text.add(piece) {
		return false, errNotUTF8
	}
	whole := r.frame.final && !r.frame.open
	if whole && len(m.data) == 0 {
		return r.finish(piece, h)
	}
	m.hold(piece, r.options.withDefaults().MaxMessage)
	if !whole {
		return true, nil
	}
	return r.finish(m.data, h)
}

// finish hands over the message, whose payload is whole.
func (r *Reader) finish(payload []byte, h Handler) (more bool, err *CloseError) {
	m := &r.message
	if m.compressed {
		f := inflaters.Get().(*inflater)
		defer f.release()
		if payload, err = f.inflate(payload, r.options.withDefaults().MaxMessage); err != nil {
			return false, err
		}
		if m.op == OpText && !utf8.Valid(payload) {
			return false, errNotUTF8
		}
	}
	if !m.text.whole() {
		return false, errNotUTF8
	}
	more = h.Message(m.op, payload)
	m.clear()
	return more, nil
}

// hold appends piece. The room is at most twice what came, or leastBuffer.
func (m *message) hold(piece []byte, limit int) {
	if need := len(m.data) + len(piece); need > cap(m.data) {
		data := make([]byte, len(m.data), min(max(2*need, leastBuffer), limit))
		copy(data, m.data)
		m.data = data
	}
	m.data = append(m.data, piece...)
}

// clear ends the message and keeps its buffer when that is small.
func (m *message) clear() {
	data := m.data[:0]
	if cap(data) > keepBuffer {
		data = nil
	}
	*m = message{data: data}
}

func (r *Reader) readControl(piece []byte, h Handler) (more bool, err *CloseError) {
	if r.frame.open || r.controlLen > 0 {
		r.controlLen += copy(r.control[r.controlLen:], piece)
		piece = r.control[:r.controlLen]
	}
	if r.frame.open {
		return true, nil
	}
	r.controlLen = 0
	if r.frame.op != OpClose {
		return h.Control(r.frame.op, piece), nil
	}
	if err := checkClose(piece); err != nil {
		return false, err
	}
	h.Control(OpClose, piece)
	return false, nil // RFC 6455 §5.5.1: nothing comes after it
}

// checkClose judges a close frame's payload (RFC 6455 §5.5.1).
func checkClose(payload []byte) *CloseError {
	switch {
	case len(payload) == 0:
		return nil
	case len(payload) == 1:
		return protocolError("the close frame has half a code")
	case !mayClose(binary.BigEndian.Uint16(payload)):
		return protocolError("the close code must not be sent")
	case !utf8.Valid(payload[2:]):
		return &CloseError{statusInvalidPayload, "the close reason is not UTF-8"}
	}
	return nil
}

func protocolError(reason string) *CloseError { return &CloseError{statusProtocolError, reason} }

var (
	errTooBig  = &CloseError{statusTooBig, "the message is too big"}
	errNotUTF8 = &CloseError{statusInvalidPayload, "the text is not UTF-8"}
	errDeflate = &CloseError{statusInvalidPayload, "the compressed data is broken"}
)
