package head

import "net/http"

const (
	maxDigits    = 15
	maxExtension = 256 // of one chunk
	maxTrailers  = 8 << 10
)

// Chunked finds the end of a chunked body as its bytes go by (RFC 9112 §7.1),
// so that a connection can be handed on up to it. It keeps none of them and
// decodes nothing. It refuses line ends other than CRLF, whitespace around the
// size, control characters, and trailers that would frame or route. The zero
// value stands before the first chunk.
type Chunked struct {
	state    chunkState
	digits   int   // of the size so far
	left     int64 // of the chunk
	ext      int   // bytes of its extensions so far
	trailers int   // bytes of the trailers so far
	name     [len("transfer-encoding")]byte
	nameLen  int // of the trailer, may be above len(name)
	err      error
}

type chunkState uint8

const (
	inSize chunkState = iota
	inExtension
	beforeData // LF to come
	inData
	afterData  // CR to come
	beforeSize // LF to come
	atTrailer  // or CR of the empty line at the end
	inTrailerName
	inTrailerValue
	afterTrailer // LF to come
	beforeEnd    // LF to come
	ended
)

// Scan looks at the next bytes of the connection: n of them belong to the body,
// which ends with them if done. An error, always an *Error, is final.
func (c *Chunked) Scan(b []byte) (n int, done bool, err error) {
	for n < len(b) && c.err == nil && c.state != ended {
		if c.state == inData {
			skip := min(c.left, int64(len(b)-n))
			n += int(skip)
			if c.left -= skip; c.left == 0 {
				c.state = afterData
			}
			continue
		}
		if c.state < atTrailer {
			c.err = c.chunkByte(b[n])
		} else {
			c.err = c.trailerByte(b[n])
		}
		if c.err == nil {
			n++
		}
	}
	return n, c.state == ended, c.err
}

// chunkByte takes a byte of the lines around chunks.
func (c *Chunked) chunkByte(b byte) error {
	switch c.state {
	case inSize:
		return c.sizeByte(b)
	case inExtension:
		if b == '\r' {
			c.state = beforeData
			return nil
		}
		if c.ext++; c.ext > maxExtension || chars[b]&isPrint == 0 {
			return bad("malformed chunk extension")
		}
	case beforeData:
		if b != '\n' {
			return bad("chunk size without CRLF")
		}
		c.state = inData
		if c.left == 0 {
			c.state = atTrailer
		}
	case afterData:
		if b != '\r' {
			return bad("chunk longer than its size")
		}
		c.state = beforeSize
	case beforeSize:
		if b != '\n' {
			return bad("chunk without CRLF")
		}
		c.state, c.digits, c.ext = inSize, 0, 0
	}
	return nil
}

func (c *Chunked) sizeByte(b byte) error {
	if digit := unhex(b); digit <= 15 {
		if c.digits++; c.digits > maxDigits {
			return bad("chunk size of more than 15 digits")
		}
		c.left = c.left<<4 | int64(digit)
		return nil
	}
	switch {
	case c.digits > 0 && b == '\r':
		c.state = beforeData
	case c.digits > 0 && b == ';':
		c.state = inExtension
	default:
		return bad("malformed chunk size")
	}
	return nil
}

// trailerByte takes a byte after the last chunk.
func (c *Chunked) trailerByte(b byte) error {
	if c.trailers++; c.trailers > maxTrailers {
		return &Error{http.StatusRequestHeaderFieldsTooLarge, "trailers above 8 KiB"}
	}
	switch c.state {
	case atTrailer:
		if b == '\r' {
			c.state = beforeEnd
			return nil
		}
		c.state, c.nameLen = inTrailerName, 0
		return c.nameByte(b)
	case inTrailerName:
		return c.nameByte(b)
	case inTrailerValue:
		if b == '\r' {
			c.state = afterTrailer
		} else if chars[b]&isValue == 0 {
			return bad("control character in a trailer")
		}
	case afterTrailer:
		if b != '\n' {
			return bad("trailer without CRLF")
		}
		c.state = atTrailer
	case beforeEnd:
		if b != '\n' {
			return bad("body ends without CRLF")
		}
		c.state = ended
	}
	return nil
}

// nameByte takes a byte of a trailer's name, up to the colon. An underscore is
// read as a dash, as some gateways do.
func (c *Chunked) nameByte(b byte) error {
	if b == ':' && c.nameLen > 0 {
		name := c.name[:min(c.nameLen, len(c.name))]
		if c.nameLen == len(name) && (framing(name) || is(name, "host") || is(name, "connection")) {
			return bad("trailer that frames or routes")
		}
		c.state = inTrailerValue
		return nil
	}
	if chars[b]&isToken == 0 {
		return bad("malformed trailer name")
	}
	if b == '_' {
		b = '-'
	}
	if c.nameLen < len(c.name) {
		c.name[c.nameLen] = b
	}
	c.nameLen++
	return nil
}
