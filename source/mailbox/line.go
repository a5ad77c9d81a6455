package mailbox

import (
	"bytes"
	"strings"
)

// keep is how much of a line is remembered: of a status, or a farewell.
const keep = 256

// line is what is known of a line that passes. It takes for quoted strings,
// lists and literals what the library does: where the two differ, a server
// could hide from the guard what the library then reads.
type line struct {
	start   []byte // its first bytes, at most keep
	length  int
	quoted  bool // within a quoted string
	escaped bool // after a backslash there
	bracket bool // there was a ]
	list    bool // there was a ( before any ]
	brace   byte // of a literal's size at the end: {, its first digit 0, or }; 0 if there is none
	size    int  // the literal's; no more than maxLiteral+1 is counted
}

// add takes more of the line, and returns how many lists begin there.
func (l *line) add(p []byte) (lists int) {
	l.length += len(p)
	l.start = append(l.start, p[:min(len(p), keep-len(l.start))]...)
	for _, b := range p {
		l.bracket = l.bracket || b == ']'
		switch {
		case l.escaped:
			l.escaped = false
		case l.quoted:
			l.escaped, l.quoted = b == '\\', b != '"'
		default:
			l.quoted = b == '"'
			if b == '(' {
				lists++
				l.list = l.list || !l.bracket
			}
			l.measure(b)
		}
	}
	return lists
}

// measure follows the {123} of a literal (RFC 9051 §4.3). The library takes it
// with a space at the line's end, too, and without the carriage return.
func (l *line) measure(b byte) {
	switch {
	case b == '{':
		l.brace, l.size = '{', 0
	case b >= '0' && b <= '9' && (l.brace == '{' || l.brace == '0'):
		l.brace, l.size = '0', min(l.size*10+int(b-'0'), maxLiteral+1)
	case b == '+' && l.brace == '0': // of one that does not wait
	case b == '}' && l.brace == '0':
		l.brace = '}'
	case strings.IndexByte(" \r\n", b) < 0 || l.brace != '}':
		l.brace = 0
	}
}

// announced is the size of the literal that follows the line, if one does.
func (l *line) announced() (size int, is bool) {
	if l.brace != '}' {
		return 0, false
	}
	return l.size, true
}

// kind says what the line is, in capitals, and whether it is a status. That is
// for people (RFC 9051 §7.1): but for a code in brackets its text means
// nothing, whatever it looks like.
func (l *line) kind() (kind, text string, isStatus bool) {
	tag, rest, _ := bytes.Cut(bytes.TrimRight(l.start, "\r\n"), []byte(" "))
	untagged := string(tag) == "*"
	if untagged {
		rest = bytes.TrimLeft(bytes.TrimLeft(rest, "0123456789"), " ") // the library takes "* 5 OK", too
	}
	n := bytes.IndexAny(rest, " (){%*\"\\]")
	if n < 0 {
		n = len(rest)
	}
	kind, text = strings.ToUpper(string(rest[:n])), string(bytes.TrimPrefix(rest[n:], []byte(" ")))
	switch kind {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		return kind, text, true
	}
	return kind, text, !untagged // tagged, or a continuation request
}

// endless reports whether the library would never come to the line's end: it
// takes a list after capabilities for one more space between them.
func (l *line) endless() bool {
	if !l.list {
		return false
	}
	kind, text, isStatus := l.kind()
	return kind == "CAPABILITY" || isStatus && strings.HasPrefix(text, "[CAPABILITY")
}
