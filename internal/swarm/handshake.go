package swarm

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"strings"
)

const maxHead = 16 << 10 // of an answer

// key is the Sec-WebSocket-Key of an attempt: it need not be kept, since it
// can be made again.
func key(i int, attempt uint32) [24]byte {
	var nonce [16]byte
	binary.BigEndian.PutUint64(nonce[:], uint64(i)+1)
	binary.BigEndian.PutUint32(nonce[8:], attempt)
	var text [24]byte
	base64.StdEncoding.Encode(text[:], nonce[:])
	return text
}

// accept is what proves that the server read the key (RFC 6455 §4.2.2).
func accept(key [24]byte) [28]byte {
	var b [60]byte
	copy(b[:], key[:])
	copy(b[24:], "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
	sum := sha1.Sum(b[:])
	var text [28]byte
	base64.StdEncoding.Encode(text[:], sum[:])
	return text
}

// appendRequest appends an attempt's request. A cursor goes into the query.
func appendRequest(b []byte, t Transport, target netip.AddrPort, r Request, cursor []byte, key [24]byte) []byte {
	b = append(append(b, "GET "...), r.Path...)
	if len(cursor) > 0 {
		separator := byte('?')
		if strings.IndexByte(r.Path, '?') >= 0 {
			separator = '&'
		}
		b = append(append(append(b, separator), "after="...), cursor...)
	}
	b = target.AppendTo(append(b, " HTTP/1.1\r\nHost: "...))
	b = append(b, "\r\n"...)
	if t == SSE {
		b = append(b, "Accept: text/event-stream\r\n"...)
	} else {
		b = append(b, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "...)
		b = append(append(b, key[:]...), "\r\n"...)
	}
	return append(append(b, r.Header...), "\r\n"...)
}

// answer is what is of use in the head of an HTTP answer.
type answer struct {
	status      int
	accept      []byte
	contentType []byte
	chunked     bool
	length      uint32 // of the body, where it is told
	measured    bool   // it is
	retryAfter  uint32 // seconds
}

// readAnswer reads the head that b begins with. A size of 0 says that it is
// not whole yet.
func readAnswer(b []byte) (a answer, size int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 && len(b) > maxHead {
		return a, 0, errTooLarge
	}
	if end < 0 {
		return a, 0, nil
	}
	line, rest, _ := bytes.Cut(b[:end], []byte("\r\n"))
	status, found := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	code, _ := digits(status)
	if !found || code < 100 || code > 599 {
		return a, 0, errFrame
	}
	a.status = int(code)
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		a.header(name, bytes.TrimSpace(value))
	}
	return a, end + 4, nil
}

func (a *answer) header(name, value []byte) {
	is := func(wanted string) bool { return len(name) == len(wanted) && strings.EqualFold(string(name), wanted) }
	switch {
	case is("Sec-WebSocket-Accept"):
		a.accept = value
	case is("Content-Type"):
		a.contentType = value
	case is("Transfer-Encoding"):
		a.chunked = bytes.Contains(value, []byte("chunked"))
	case is("Content-Length"):
		n, _ := digits(value)
		a.length, a.measured = uint32(min(n, 1<<31)), true
	case is("Retry-After"):
		seconds, _ := digits(value)
		a.retryAfter = uint32(min(seconds, 3600))
	}
}
