package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// ParseDate reads a date in one of HTTP's three formats (RFC 9110 §5.6.7), in any
// case but otherwise to the letter. The name of the day is not compared with the
// date: servers get it wrong, and nothing depends on it.
func ParseDate(s string) (time.Time, bool) {
	if len(s) < len(time.ANSIC) || len(s) > len("Wednesday, 09-Nov-94 08:49:37 GMT") {
		return time.Time{}, false
	}
	s = strings.ToUpper(s)
	for _, layout := range [...]string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
		t, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		// Parse is lenient with spaces, digits and fractions. What it would write
		// itself is not, but for the day, at the end of which both continue alike.
		_, rest, _ := strings.Cut(strings.ToUpper(t.Format(layout)), " ")
		_, given, _ := strings.Cut(s, " ")
		return t, given == rest
	}
	return time.Time{}, false
}
