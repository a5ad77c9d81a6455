package swarm

import (
	"bytes"
	"strconv"
	"time"
)

// Payload makes a JSON object of so many bytes, at the least what it needs,
// that carries a number and the time it is sent at.
func Payload(number uint64, sent time.Time, size int) []byte {
	b := append(make([]byte, 0, size), marker...)
	b = strconv.AppendUint(b, number, 10)
	b = strconv.AppendInt(append(b, ','), sent.UnixNano(), 10)
	b = append(b, `],"pad":"`...)
	for len(b) < size-2 {
		b = append(b, 'a'+byte(len(b)%26))
	}
	return append(b, `"}`...)
}

const marker = `{"swarm":[`

// mark reads what Payload put somewhere into m.
func mark(m []byte) (number uint64, sent int64, ok bool) {
	at := bytes.Index(m, []byte(marker))
	if at < 0 {
		return 0, 0, false
	}
	number, rest := digits(m[at+len(marker):])
	if len(rest) == 0 || rest[0] != ',' {
		return 0, 0, false
	}
	nanoseconds, _ := digits(rest[1:])
	return number, int64(nanoseconds), true
}

// digits reads a whole number, 0 if there is none.
func digits(b []byte) (n uint64, rest []byte) {
	for len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
		n = n*10 + uint64(b[0]-'0')
		b = b[1:]
	}
	return n, b
}

// field returns what follows a key, as in "cursor":", up to the quote.
func field(m []byte, key string) []byte {
	_, rest, found := bytes.Cut(m, []byte(key))
	end := bytes.IndexByte(rest, '"')
	if !found || end < 0 {
		return nil
	}
	return rest[:end]
}

// number returns the number that follows a key, as in "heartbeat":, and what
// comes after it.
func number(m []byte, key string) (n uint64, rest []byte) {
	_, rest, _ = bytes.Cut(m, []byte(key))
	return digits(rest)
}
