package event

import "strings"

// Bounds of a topic and of a pattern.
const (
	maxTopic    = 255 // bytes
	maxSegments = 16
)

// Topic is where an event belongs: 1 to 16 segments of letters, digits and
// -._~@+:% joined by "/", 255 bytes in all: "mail/alice/inbox".
type Topic string

// Pattern selects topics. "*" stands for one segment and "**", at the end,
// for one or more: "mail/*/inbox", "feeds/**". A topic is a pattern too.
type Pattern string

// ParseTopic checks s, or returns an *InvalidError.
func ParseTopic(s string) (Topic, error) {
	if err := checkPath("topic", s, false); err != nil {
		return "", err
	}
	return Topic(s), nil
}

// ParsePattern checks s, or returns an *InvalidError.
func ParsePattern(s string) (Pattern, error) {
	if err := checkPath("pattern", s, true); err != nil {
		return "", err
	}
	return Pattern(s), nil
}

func checkPath(what, s string, wild bool) error {
	if s == "" {
		return invalid(what, "it is missing; name one like feeds/news")
	}
	if len(s) > maxTopic {
		return invalid(what, "it is %d bytes long, at most %d are taken", len(s), maxTopic)
	}
	for n := 1; ; n++ {
		segment, rest, more := strings.Cut(s, "/")
		if n > maxSegments {
			return invalid(what, "it has more than %d segments", maxSegments)
		}
		if err := checkSegment(what, segment, wild, more); err != nil {
			return err
		}
		if !more {
			return nil
		}
		s = rest
	}
}

func checkSegment(what, segment string, wild, more bool) error {
	switch {
	case segment == "":
		return invalid(what, "it has an empty segment; segments are joined by single slashes, with none at either end")
	case wild && segment == "*", wild && segment == "**" && !more:
		return nil
	case wild && segment == "**":
		return invalid(what, "** may only be the last segment")
	}
	for i := range len(segment) {
		if !isTopicByte(segment[i]) {
			return invalid(what, "%q may not stand in a segment; take letters, digits and -._~@+:%%", segment[i:i+1])
		}
	}
	return nil
}

func isTopicByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-._~@+:%", c) >= 0
}

// Literal reports whether p names a single topic.
func (p Pattern) Literal() bool { return !strings.Contains(string(p), "*") }

// Matches reports whether t is one of p's topics.
func (p Pattern) Matches(t Topic) bool {
	return covers(string(p), string(t))
}

// AnyMatches reports whether one of the patterns matches t.
func AnyMatches(patterns []Pattern, t Topic) bool {
	for _, p := range patterns {
		if p.Matches(t) {
			return true
		}
	}
	return false
}

// Covers reports whether each topic of q is one of p's.
func (p Pattern) Covers(q Pattern) bool { return covers(string(p), string(q)) }

// covers walks both segment by segment; q may be a topic.
func covers(p, q string) bool {
	for {
		ps, prest, pmore := strings.Cut(p, "/")
		qs, qrest, qmore := strings.Cut(q, "/")
		switch {
		case ps == "**":
			return true
		case qs == "**", ps != "*" && ps != qs:
			return false
		case !pmore || !qmore:
			return pmore == qmore
		}
		p, q = prest, qrest
	}
}

// Overlaps reports whether some topic could be both p's and q's.
func (p Pattern) Overlaps(q Pattern) bool {
	a, b := string(p), string(q)
	for {
		as, arest, amore := strings.Cut(a, "/")
		bs, brest, bmore := strings.Cut(b, "/")
		switch {
		case as == "**" || bs == "**":
			return true
		case as != "*" && bs != "*" && as != bs:
			return false
		case !amore || !bmore:
			return amore == bmore
		}
		a, b = arest, brest
	}
}

// UnmarshalText parses a pattern in a configuration file or a token.
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePattern(string(text))
	return err
}

// UnmarshalText parses a topic in a configuration file.
func (t *Topic) UnmarshalText(text []byte) (err error) {
	*t, err = ParseTopic(string(text))
	return err
}

// ParsePatterns checks each of s.
func ParsePatterns(s []string) ([]Pattern, error) {
	patterns := make([]Pattern, len(s))
	for i := range s {
		p, err := ParsePattern(s[i])
		if err != nil {
			return nil, err
		}
		patterns[i] = p
	}
	return patterns, nil
}
