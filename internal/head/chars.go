package head

import "strings"

// What a byte may be part of.
const (
	isToken       = 1 << iota // RFC 9110 §5.6.2
	isTarget                  // visible ASCII but "#"
	isTargetStart             // "/", "*" or the first letter of http
	isHost                    // a registered name or IPv4 address, RFC 3986's unreserved
	isValue                   // of a field, RFC 9110 §5.5: no control characters but tab
	isPrint                   // ASCII without control characters but tab
	isDigit
)

var chars = func() (t [256]uint8) {
	for i := range t {
		c := byte(i)
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		set := func(class uint8, yes bool) {
			if yes {
				t[i] |= class
			}
		}
		set(isToken, alnum || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0)
		set(isTarget, c > ' ' && c < 0x7f && c != '#')
		set(isTargetStart, strings.IndexByte("/*hH", c) >= 0)
		set(isHost, alnum || strings.IndexByte("-._~", c) >= 0)
		set(isValue, c == '\t' || c >= ' ' && c != 0x7f)
		set(isPrint, c == '\t' || c >= ' ' && c < 0x7f)
		set(isDigit, '0' <= c && c <= '9')
	}
	return t
}()

// is tells whether b is word, which is in lower case, in whatever case.
func is(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if lower(c) != word[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c |= 0x20
	}
	return c
}

// number reads digits, at least one and nothing else.
func number(b []byte, limit int64) (n int64, ok bool) {
	for _, c := range b {
		if chars[c]&isDigit == 0 {
			return 0, false
		}
		d := int64(c - '0')
		if n > (limit-d)/10 {
			return 0, false
		}
		n = 10*n + d
	}
	return n, len(b) > 0
}

// unhex is the value of a hexadecimal digit, or 0xff.
func unhex(c byte) byte {
	switch c = lower(c); {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// trim is b without optional whitespace around it (RFC 9110 §5.6.3).
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
