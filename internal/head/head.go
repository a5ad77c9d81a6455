// Package head reads the head of an HTTP/1.1 request from bytes that have
// arrived so far, without allocating and without a reader of its own: for a
// front that answers some requests itself and hands all others, with the bytes
// read, to net/http. Chunked and ParseProxy read what stands around a head.
//
// Two parsers on one connection invite request smuggling. So whatever Parse
// accepts net/http accepts too and reads in the same way; what is doubtful by
// RFC 9112 is refused, though net/http may bear it: line ends other than CRLF,
// folded lines, Content-Length next to Transfer-Encoding, any field that frames
// the body twice. The fuzz tests compare the two. One exception is left to
// net/http: a bad percent-encoding in the path, since paths are not decoded
// here. HTTP reports it.
//
// A head has at most 64 KiB, its request line 8 KiB, 64 fields. A head that
// cannot become a valid one is refused as soon as that shows, not at its end.
// Bodies, trailers beyond their end and HTTP/2 are left out.
package head

import (
	"errors"
	"net/http"
)

const (
	maxHead   = 64 << 10
	maxLine   = 8 << 10
	maxFields = 64
	maxMethod = 32
)

var (
	// ErrIncomplete says that what is there is fine and that more must come.
	ErrIncomplete = errors.New("incomplete head")
	// ErrHTTP2 says that the request line is that of an HTTP/2 preface.
	ErrHTTP2 = errors.New("preface of HTTP/2")
)

// Error is why a head is refused: the answer to give before closing.
type Error struct {
	Status int    // of the answer: 4xx or 5xx
	Reason string // a constant, nothing of what the client sent
}

func (e *Error) Error() string { return e.Reason }

func bad(reason string) error { return &Error{http.StatusBadRequest, reason} }

// Request is the head of a request. Its slices are views of the bytes it was
// parsed from and valid as long as these are.
type Request struct {
	Method []byte
	Target []byte // as sent
	// Path is the target's up to "?", not decoded. It is "*" in OPTIONS *, and
	// empty for an absolute target without one: http://example.com?q.
	Path  []byte
	Query []byte // without "?"
	Minor int    // of HTTP/1.x: 0 or 1
	// Host is the Host field or the authority of an absolute target, which
	// are the same but for case. Only HTTP/1.0 may be without.
	Host      []byte
	Length    int64 // of the body: 0 without one, -1 when chunked
	KeepAlive bool  // the client wants the connection kept
	Expect    bool  // the client waits for 100 Continue
	// Upgrade is the field of that name where Connection lists it. Nil as well
	// in HTTP/1.0 and when there are several: such a request is net/http's.
	Upgrade []byte
	Size    int // bytes of the head, with an empty line before it and the one after it

	head   []byte
	start  int // of the request line: 2 after an empty line
	seen   seen
	count  int
	fields [maxFields]field
}

// field is where in the head a field stands.
type field struct{ name, colon, value, end uint16 }

// seen is what of the fields on framing and connection has come.
type seen uint8

const (
	seenHost seen = 1 << iota
	seenLength
	seenCoding
	seenExpect
	listsClose
	listsKeepAlive
	listsUpgrade
)

// Parse reads a head from the beginning of b, which may hold more than that.
// It returns ErrIncomplete if b ends before the head does: call it again with
// more, from the same beginning; ErrHTTP2 for the preface of HTTP/2; an *Error
// if b cannot begin a head to be accepted. After an error r is of no use. Only
// refusals and IPv6 addresses as Host allocate.
//
// Each call begins anew. To keep a head that comes byte by byte from costing its
// square, call again only after a line feed or some hundred bytes more.
//
// One empty line before the request line is skipped (RFC 9112 §2.2), which
// net/http does after a POST only: hand on the bytes after it.
func (r *Request) Parse(b []byte) error {
	*r = Request{head: b[:min(len(b), maxHead)]}
	err := r.parse()
	if len(r.head) == maxHead && errors.Is(err, ErrIncomplete) {
		return &Error{http.StatusRequestHeaderFieldsTooLarge, "head above 64 KiB"}
	}
	return err
}

func (r *Request) parse() error {
	b, at := r.head, 0
	var err error
	if len(b) > 0 && b[0] == '\r' {
		if at, err = crlf(b, 0); err != nil {
			return err
		}
	}
	r.start = at
	if at, err = r.requestLine(at); err != nil {
		return err
	}
	for at < len(b) && b[at] != '\r' {
		if at, err = r.field(at); err != nil {
			return err
		}
	}
	if r.Size, err = crlf(b, at); err != nil {
		return err
	}
	return r.finish()
}

// finish is what can be said only when all fields are there.
func (r *Request) finish() error {
	if r.seen&seenHost == 0 && r.Minor == 1 { // RFC 9112 §3.2
		return bad("no Host field")
	}
	// RFC 9112 §9.3
	r.KeepAlive = r.seen&listsClose == 0 && (r.Minor == 1 || r.seen&listsKeepAlive != 0)
	// RFC 9110 §7.8: not in HTTP/1.0.
	if r.seen&listsUpgrade != 0 && r.Minor == 1 && r.Count("upgrade") == 1 {
		r.Upgrade = r.Get("upgrade")
	}
	return nil
}

// crlf is where the line end at b[at] ends.
func crlf(b []byte, at int) (int, error) {
	switch {
	case at == len(b):
		return 0, ErrIncomplete
	case b[at] != '\r':
		return 0, bad("control character or line feed without carriage return")
	case at+1 == len(b):
		return 0, ErrIncomplete
	case b[at+1] != '\n':
		return 0, bad("carriage return without line feed")
	}
	return at + 2, nil
}
