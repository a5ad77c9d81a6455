package rfc9111

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Status is our member of Cache-Status (RFC 9211). It goes after those of the
// caches nearer to the origin.
type Status struct {
	Hit           bool
	Forward       string // unless Hit: bypass, method, uri-miss, vary-miss, miss, request, stale or partial
	ForwardStatus int    // what the origin answered, if not what we do
	Stored        bool
	Collapsed     bool // with another request
	TTL           time.Duration
	HasTTL        bool
	Key           string
	Detail        string
}

// String is the member: "chappe; hit; ttl=30".
func (s Status) String() string { return string(s.Append(nil)) }

// Append appends the member to b.
func (s Status) Append(b []byte) []byte {
	b = append(b, "chappe"...)
	switch {
	case s.Hit:
		b = append(b, "; hit"...)
	case s.Forward != "":
		b = append(append(b, "; fwd="...), s.Forward...)
		if s.ForwardStatus != 0 {
			b = strconv.AppendInt(append(b, "; fwd-status="...), int64(s.ForwardStatus), 10)
		}
		if s.Stored {
			b = append(b, "; stored"...)
		}
		if s.Collapsed {
			b = append(b, "; collapsed"...)
		}
	}
	if s.HasTTL {
		b = strconv.AppendInt(append(b, "; ttl="...), int64(math.Floor(s.TTL.Seconds())), 10)
	}
	if s.Key != "" {
		b = appendString(append(b, "; key="...), s.Key)
	}
	if s.Detail != "" {
		b = append(b, "; detail="...)
		if isToken(s.Detail) && (s.Detail[0]|0x20 >= 'a' && s.Detail[0]|0x20 <= 'z') { // RFC 9651 §3.3.4
			return append(b, s.Detail...)
		}
		b = appendString(b, s.Detail)
	}
	return b
}

// appendString writes a string (RFC 9651 §3.3.3), with what it cannot hold
// percent-encoded.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~':
			b = append(b, '%', hex[c>>4], hex[c&15])
		case strings.IndexByte(`"\`, c) >= 0:
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
