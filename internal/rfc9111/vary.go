package rfc9111

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

const maxVary = 64 // names; a response that varies by more is not reusable

// Vary is the names of the request's fields that select the response (RFC 9110
// §12.5.5), in lower case, sorted and without duplicates, or any: by more than
// can be told, so that no other request is sure to select it.
func Vary(h http.Header) (names []string, any bool) {
	for _, line := range h.Values("Vary") {
		for member := range strings.SplitSeq(line, ",") {
			name := strings.ToLower(trim(member))
			switch {
			case name == "" || slices.Contains(names, name):
			case name == "*" || !isToken(name) || len(names) == maxVary:
				return nil, true
			default:
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, false
}

// Selector is what a stored response was selected by (RFC 9111 §4.1): the values
// that its request had in the fields of Vary. The zero value is that of a
// response without Vary.
type Selector struct{ fields []selected }

type selected struct {
	name  string
	value string // as it came
	norm  string
}

// NewSelector takes the values of the named fields, all lines of a field joined
// by commas, "" for a missing one.
func NewSelector(names []string, get func(lowerName string) string) Selector {
	s := Selector{make([]selected, len(names))}
	for i, name := range names {
		value := get(name)
		s.fields[i] = selected{name, value, normal(name, value)}
	}
	return s
}

// Matches tells whether a request selects the response.
func (s Selector) Matches(get func(lowerName string) string) bool {
	for i := range s.fields {
		f := &s.fields[i]
		if value := get(f.name); value != f.value && normal(f.name, value) != f.norm {
			return false
		}
	}
	return true
}

// Names are the fields that count.
func (s Selector) Names() []string {
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.name
	}
	return names
}

// Header is the fields of a request that selects this response, to ask for it
// again. Accept-Encoding is in it as it was compared, not as it came: an origin
// must not answer with a coding that another client of this selector cannot read.
func (s Selector) Header() http.Header {
	h := make(http.Header, len(s.fields))
	for _, f := range s.fields {
		value := f.value
		if f.name == "accept-encoding" {
			value = f.norm
		}
		if value != "" {
			h.Set(f.name, value)
		}
	}
	return h
}

// String is the same for selectors that match the same requests, and for no
// others: a key.
func (s Selector) String() string {
	var b []byte
	for _, f := range s.fields {
		b = fmt.Appendf(b, "%d:%s%d:%s", len(f.name), f.name, len(f.norm), f.norm)
	}
	return string(b)
}

// normal is the form of a value in which those that mean the same are the same
// (RFC 9111 §4.1 allows it).
func normal(name, value string) string {
	switch name {
	case "accept-encoding":
		return normalEncoding(value)
	case "accept-language":
		return normalLanguage(value)
	}
	return withoutSpace(value)
}

// normalEncoding is limited to what a gateway compresses to.
func normalEncoding(value string) string {
	switch gzip, br := AcceptsEncoding(value); {
	case gzip && br:
		return "br,gzip"
	case br:
		return "br"
	case gzip:
		return "gzip"
	}
	return "identity"
}

// normalLanguage takes languages without weights for equally welcome.
func normalLanguage(value string) string {
	value = strings.ToLower(strings.NewReplacer(" ", "", "\t", "").Replace(value))
	if strings.Contains(value, ";") || !strings.Contains(value, ",") {
		return value
	}
	languages := strings.Split(value, ",")
	slices.Sort(languages)
	return strings.Join(slices.Compact(languages), ",")
}

// withoutSpace is a list without the space around its commas.
func withoutSpace(value string) string {
	value = trim(value)
	if !strings.Contains(value, ",") {
		return value
	}
	var b strings.Builder
	for member := range members(value) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(member)
	}
	return b.String()
}
