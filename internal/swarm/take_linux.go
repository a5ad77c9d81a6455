package swarm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"time"
)

var errClosed = errors.New("closed by the server")

// takeFrames handles the frames that b begins with.
func (l *loop) takeFrames(j int, c *conn, b []byte) (rest []byte, w why, err error) {
	for {
		f, size, err := nextFrame(b, l.options.MessageBytes)
		if err != nil {
			return nil, lost, err
		}
		if size == 0 {
			return b, lost, nil
		}
		b = b[size:]
		switch f.op {
		case opText, opBinary, opContinuation:
			err = l.data(c, f)
		case opPing:
			l.counts.Pings++
			if !l.write(j, opPong, f.payload) {
				return nil, lost, nil // it is finished
			}
		case opPong:
		case opClose:
			return nil, lost, l.closeFrame(j, c, f.payload)
		default:
			err = errFrame
		}
		if err != nil {
			return nil, lost, err
		}
	}
}

// data puts fragments together (RFC 6455 §5.4).
func (l *loop) data(c *conn, f frame) error {
	if c.is(isFragments) != (f.op == opContinuation) {
		return errFrame
	}
	if f.fin && !c.is(isFragments) {
		l.message(c, f.payload, nil)
		return nil
	}
	whole := append(l.fragments[c.fd], f.payload...)
	if len(whole) > l.options.MessageBytes {
		return errTooLarge
	}
	if !f.fin {
		l.fragments[c.fd] = whole
		c.flags |= isFragments
		return nil
	}
	delete(l.fragments, c.fd)
	c.flags &^= isFragments
	l.message(c, whole, nil)
	return nil
}

// closeFrame answers a close with one (RFC 6455 §5.5.1) and says why it came.
// A reason retry= overrules what a control said, as in chappe.js.
func (l *loop) closeFrame(j int, c *conn, payload []byte) error {
	if len(payload) < 2 {
		_ = l.write(j, opClose, nil)
		return errClosed
	}
	code := binary.BigEndian.Uint16(payload)
	if after, found := bytes.CutPrefix(payload[2:], []byte("retry=")); found {
		c.tell(digits(after))
	}
	text := "closed " + strconv.Itoa(int(code))
	if code == statusTryLater {
		text += ", come back later"
	}
	if !l.write(j, opClose, payload[:2]) {
		return nil
	}
	return errors.New(text)
}

// tell notes when to come back, in milliseconds.
func (c *conn) tell(ms uint64, _ []byte) { c.told = uint32(min(ms, uint64(maxTold.Milliseconds()))) }

// takeStream handles the messages that b begins with (WHATWG HTML §9.2.6),
// each with its lines ended by LF alone.
func (l *loop) takeStream(c *conn, b []byte) (rest []byte, w why, err error) {
	for {
		m, after, found := bytes.Cut(b, []byte("\n\n"))
		if !found && len(b) > l.options.MessageBytes+maxHead {
			return nil, lost, errTooLarge
		}
		if !found {
			return b, lost, nil
		}
		b = after
		var id, data []byte
		for len(m) > 0 {
			var line []byte
			line, m, _ = bytes.Cut(m, []byte("\n"))
			name, value, _ := bytes.Cut(line, []byte(":"))
			value = bytes.TrimPrefix(value, []byte(" "))
			switch string(name) {
			case "id":
				id = value
			case "data":
				data = value // one line, as Chappe sends it
			case "retry":
				ms, _ := digits(value)
				c.streamRetry = uint32(min(ms, uint64(maxTold.Milliseconds())))
			}
		}
		if data != nil {
			l.message(c, data, id)
		}
	}
}

// message counts an event, or does what a control says. The id, where there
// is one, is where to go on after it.
func (l *loop) message(c *conn, m, id []byte) {
	if bytes.HasPrefix(m, []byte(`{"control":"`)) {
		l.control(c, m, id)
		return
	}
	l.counts.Received++
	c.received++
	if l.options.Policy == Chappe {
		c.remember(m, id)
	}
	n, sent, ok := mark(m)
	if !ok {
		return
	}
	if sent > 0 {
		l.latency.Record(time.Duration(time.Now().UnixNano() - sent))
	}
	holes, again := c.number(n)
	l.counts.Missed += holes
	if again {
		l.counts.Doubled++
	}
}

// remember keeps where to go on.
func (c *conn) remember(m, id []byte) {
	if id == nil {
		id = field(m, `"cursor":"`)
	}
	if id != nil {
		c.cursor = append(c.cursor[:0], id...)
	}
}

// control follows take of client/chappe.js.
func (l *loop) control(c *conn, m, id []byte) {
	if l.options.Policy == Chappe {
		c.remember(m, id)
	}
	switch string(field(m, `{"control":"`)) {
	case "hello":
		l.hello(c, m)
	case "reset":
		l.counts.Resets++
		l.live(c)
	case "drain", "error":
		c.told = c.streamRetry
		if ms, _ := number(m, `"retry_in":`); ms > 0 {
			c.tell(ms, nil)
		}
		if string(field(m, `"code":"`)) == "token-expired" {
			c.flags |= expired
		}
	}
}

func (l *loop) hello(c *conn, m []byte) {
	if l.options.Policy == Chappe {
		seconds, _ := number(m, `"heartbeat":`)
		c.silence = uint32(min(seconds, 1<<20))*1250 + 2000
	}
	low, rest := number(m, `"retry":[`)
	high := uint64(0)
	if len(rest) > 0 {
		high, _ = digits(rest[1:])
	}
	if high >= low && high > 0 {
		c.retryMin, c.retryMax = uint32(min(low, 1<<31)), uint32(min(high, 1<<31))
		c.flags |= met
	}
	l.live(c)
}
