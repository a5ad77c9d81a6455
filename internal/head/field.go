package head

import (
	"bytes"
	"net/http"
)

// maxLength leaves room for what is added to a length.
const maxLength = 1 << 62

// field reads the field line at r.head[at] and returns where the next line
// begins. Whitespace before the name or the colon, that is folded lines too, is
// refused (RFC 9112 §5.1, §5.2).
func (r *Request) field(at int) (int, error) {
	b := r.head
	if r.count == maxFields {
		return 0, &Error{http.StatusRequestHeaderFieldsTooLarge, "more than 64 fields"}
	}
	i := at
	for i < len(b) && chars[b[i]]&isToken != 0 {
		i++
	}
	if i == len(b) {
		return 0, ErrIncomplete
	}
	if i == at || b[i] != ':' {
		return 0, bad("malformed field name")
	}
	colon := i
	i++
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	value := i
	for i < len(b) && chars[b[i]]&isValue != 0 {
		i++
	}
	next, err := crlf(b, i)
	if err != nil {
		return 0, err
	}
	for i > value && (b[i-1] == ' ' || b[i-1] == '\t') {
		i--
	}
	// A head fits into 16 bits, less its last CRLF.
	r.fields[r.count] = field{uint16(at), uint16(colon), uint16(value), uint16(i)}
	r.count++
	return next, r.note(b[at:colon], b[value:i])
}

// note takes up what a field says about the message and the connection.
func (r *Request) note(name, value []byte) error {
	switch {
	case is(name, "host"):
		return r.noteHost(value)
	case is(name, "content-length"):
		return r.noteLength(value)
	case is(name, "transfer-encoding"):
		return r.noteCoding(value)
	case is(name, "connection"):
		return r.noteConnection(value)
	case is(name, "expect"):
		return r.noteExpect(value)
	case is(name, "trailer"):
		return noteTrailer(value)
	case is(name, "content_length"), is(name, "transfer_encoding"):
		// Behind a gateway that maps both to one variable it would frame.
		return bad("underscore in the name of a framing field")
	}
	return nil
}

// noteHost obeys RFC 9112 §3.2. That of an absolute target takes precedence by
// §3.2.2; here both must agree.
func (r *Request) noteHost(value []byte) error {
	if r.seen&seenHost != 0 {
		return bad("two Host fields")
	}
	r.seen |= seenHost
	if !validHost(value) {
		return bad("malformed Host")
	}
	if r.Host == nil {
		r.Host = value
	} else if !bytes.EqualFold(r.Host, value) {
		return bad("Host is not that of the target")
	}
	return nil
}

func (r *Request) noteLength(value []byte) error {
	if r.seen&(seenLength|seenCoding) != 0 { // RFC 9112 §6.3
		return bad("body framed twice")
	}
	r.seen |= seenLength
	n, ok := number(value, maxLength)
	if !ok {
		return bad("malformed Content-Length")
	}
	r.Length = n
	return nil
}

func (r *Request) noteCoding(value []byte) error {
	if r.seen&(seenLength|seenCoding) != 0 { // RFC 9112 §6.1, §6.3
		return bad("body framed twice")
	}
	r.seen |= seenCoding
	if r.Minor == 0 {
		return bad("Transfer-Encoding in HTTP/1.0")
	}
	if !is(value, "chunked") {
		return &Error{http.StatusNotImplemented, "Transfer-Encoding other than chunked"}
	}
	r.Length = -1
	return nil
}

func (r *Request) noteConnection(value []byte) error {
	for len(value) > 0 {
		var option []byte
		option, value = cut(value, ',')
		switch option = trim(option); {
		case is(option, "close"):
			r.seen |= listsClose
		case is(option, "keep-alive"):
			r.seen |= listsKeepAlive
		case is(option, "upgrade"):
			r.seen |= listsUpgrade
		case is(option, "host"), is(option, "content-length"), is(option, "transfer-encoding"):
			// RFC 9110 §7.6.1: a hop that obeyed would frame or route anew.
			return bad("Connection lists a field that is not its own")
		}
	}
	return nil
}

// noteExpect obeys RFC 9110 §10.1.1.
func (r *Request) noteExpect(value []byte) error {
	if r.seen&seenExpect != 0 || len(value) > 0 && !is(value, "100-continue") {
		return &Error{http.StatusExpectationFailed, "expectation other than 100-continue"}
	}
	r.seen |= seenExpect
	r.Expect = len(value) > 0 && r.Minor == 1
	return nil
}

// noteTrailer obeys RFC 9110 §6.5.1.
func noteTrailer(value []byte) error {
	for len(value) > 0 {
		var name []byte
		name, value = cut(value, ',')
		if framing(trim(name)) {
			return bad("framing field announced as trailer")
		}
	}
	return nil
}

// framing tells whether the field of that name says where a body ends.
func framing(name []byte) bool {
	return is(name, "content-length") || is(name, "transfer-encoding") || is(name, "trailer")
}

// Get returns the first field of that name, which is in lower case, without
// whitespace around it; nil if there is none.
func (r *Request) Get(name string) []byte {
	for _, f := range r.fields[:r.count] {
		if is(r.head[f.name:f.colon], name) {
			return r.head[f.value:f.end]
		}
	}
	return nil
}

// Count is the number of fields of that name, which is in lower case.
func (r *Request) Count(name string) int {
	n := 0
	for _, f := range r.fields[:r.count] {
		if is(r.head[f.name:f.colon], name) {
			n++
		}
	}
	return n
}

// Joined is a copy of all fields of that name, which is in lower case, with ","
// between them: one value where the field is a list (RFC 9110 §5.3).
func (r *Request) Joined(name string) string {
	var values [][]byte
	for _, f := range r.fields[:r.count] {
		if is(r.head[f.name:f.colon], name) {
			values = append(values, r.head[f.value:f.end])
		}
	}
	return string(bytes.Join(values, []byte(",")))
}

// cut splits b at the first sep; all of b comes before none.
func cut(b []byte, sep byte) (before, after []byte) {
	if i := bytes.IndexByte(b, sep); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}
