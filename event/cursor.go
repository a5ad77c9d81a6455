package event

import (
	"strconv"
	"strings"
)

// Cursor is an event's place in the log, written "epoch.seq" ("k3f9.1042").
// It is opaque to clients and the same on every transport. The zero Cursor
// stands before the first event.
type Cursor struct {
	Epoch string // made with the log; 1 to 16 of a-z and 0-9
	Seq   int64  // 1 for the first event

	// Kept marks a reader on its way from the start to the head, where a cursor
	// would be gone: it asked for what is kept, so what was purged does not
	// matter. It is written as a final "s" ("k3f9.1042s").
	Kept bool
}

// ParseCursor reads what String wrote, or returns an *InvalidError.
func ParseCursor(s string) (Cursor, error) {
	epoch, digits, ok := strings.Cut(s, ".")
	digits, kept := strings.CutSuffix(digits, "s")
	if !ok || epoch == "" || len(epoch) > 16 || strings.ContainsFunc(epoch, notEpoch) {
		return Cursor{}, badCursor(s)
	}
	seq, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || seq < 0 || digits != strconv.FormatInt(seq, 10) {
		return Cursor{}, badCursor(s)
	}
	return Cursor{Epoch: epoch, Seq: seq, Kept: kept}, nil
}

func badCursor(s string) error {
	if len(s) > 64 {
		s = s[:64] + "..."
	}
	return invalid("cursor", "%q is none; send back one that this server gave, like k3f9.1042", s)
}

func notEpoch(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }

// FromStart reports whether a reader at c asked for what is kept, and has not
// come to the head yet.
func (c Cursor) FromStart() bool { return c.Kept || c.IsZero() }

// IsZero reports whether c stands before the first event of any log.
func (c Cursor) IsZero() bool { return c == Cursor{} }

func (c Cursor) String() string {
	if c.IsZero() {
		return ""
	}
	var scratch [40]byte
	return string(c.Append(scratch[:0]))
}

// Append appends what String does to b.
func (c Cursor) Append(b []byte) []byte {
	if c.IsZero() {
		return b
	}
	b = strconv.AppendInt(append(append(b, c.Epoch...), '.'), c.Seq, 10)
	if c.Kept {
		b = append(b, 's')
	}
	return b
}

// MarshalText writes what String does.
func (c Cursor) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
