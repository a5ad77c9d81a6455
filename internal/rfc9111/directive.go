package rfc9111

import (
	"iter"
	"strings"
	"time"
)

// maxDelta is what larger numbers of seconds are taken for (RFC 9111 §1.2.2).
const maxDelta = (1 << 31) * time.Second

// members splits a field's value at its commas, but not at those in quoted
// strings, and trims what it yields (RFC 9110 §5.6.1). Empty members are left
// out. A quote within a word, or one that is never closed, is an ordinary
// character, so that it cannot hide a "no-store" behind it.
func members(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		open := true // whether a quote may still be closed
		for s != "" {
			n := 0
			for n < len(s) && s[n] != ',' {
				if s[n] == '"' && open && (n == 0 || strings.IndexByte("= \t;", s[n-1]) >= 0) {
					end := closing(s[n+1:])
					open = end >= 0
					n += end + 1
				}
				n++
			}
			member := trim(s[:n])
			s = s[min(n+1, len(s)):]
			if member != "" && !yield(member) {
				return
			}
		}
	}
}

// closing is where the quoted string whose inside s begins with is closed, or -1.
func closing(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\': // RFC 9110 §5.6.4
			i++
		case '"':
			return i
		}
	}
	return -1
}

// directive splits a member of Cache-Control. A space around "=" is an error
// (RFC 9110 §5.6.6 knows none); the name still counts, the value becomes one that
// is no number.
func directive(member string) (name, value string) {
	name, value, found := strings.Cut(member, "=")
	if !found {
		return name, ""
	}
	if trimmed := trim(name); trimmed != name {
		return trimmed, " "
	}
	if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		value = value[1 : len(value)-1] // RFC 9111 §5.2: the quoted form is to be accepted
	}
	return name, value
}

// delta reads delta-seconds (RFC 9111 §1.2.2), capped.
func delta(s string) (time.Duration, bool) {
	n, ok := digits(s, 1<<31)
	return time.Duration(n) * time.Second, ok
}

// digits reads a number, at most limit.
func digits(s string, limit int64) (n int64, ok bool) {
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 {
			return 0, false
		}
		if n > (limit-d)/10 {
			n = limit
		} else {
			n = 10*n + d
		}
	}
	return n, s != ""
}

// trim is s without optional whitespace around it (RFC 9110 §5.6.3).
func trim(s string) string { return strings.Trim(s, " \t") }

// isToken as in RFC 9110 §5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
