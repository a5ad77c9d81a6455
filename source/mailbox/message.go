package mailbox

import (
	"bytes"
	"mime"
	stdmail "net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
	"golang.org/x/text/encoding/charmap"
)

// What is read of a mail's head, and how much of it goes into an event.
const (
	maxHead      = 16 << 10 // bytes; the server cuts the rest
	maxSubject   = 998      // a line of RFC 5322 §2.1.1
	maxNameBytes = 256
	maxAddresses = 50
)

// headFields are the fields that are asked for.
var headFields = []string{"From", "To", "Subject", "Date", "Message-ID"}

// Correspondent is one of those who write, or are written to.
type Correspondent struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// head is what a mail says of itself. None of it is to be believed.
type head struct {
	MessageID string          `json:"message_id"`
	From      []Correspondent `json:"from"`
	To        []Correspondent `json:"to"`
	Subject   string          `json:"subject"`
	Date      *time.Time      `json:"date,omitempty"` // its author's; missing if it cannot be read
}

// parseHead reads header fields (RFC 5322), which may be cut anywhere, hold
// bytes in any charset, and lie. What cannot be read is left out.
func parseHead(raw []byte) head {
	fields := unfold(raw[:min(len(raw), maxHead)]) // a server may send more than it was asked for
	h := head{
		MessageID: clean(strings.Trim(fields["message-id"], "<> \t"), maxNameBytes),
		From:      correspondents(fields["from"]), To: correspondents(fields["to"]),
		Subject: clean(decode(fields["subject"]), maxSubject),
	}
	if date, err := stdmail.ParseDate(fields["date"]); err == nil && isTime(date) {
		date = date.UTC()
		h.Date = &date
	}
	return h
}

// isTime reports whether an event can carry t: its year has four digits in UTC.
func isTime(t time.Time) bool {
	year := t.UTC().Year()
	return year > 0 && year < 10_000
}

// unfold returns the first of each field, by its name in lower case, as UTF-8.
func unfold(raw []byte) map[string]string {
	raw = toUTF8(raw)
	fields := map[string]string{}
	name := ""
	for line := range bytes.Lines(raw) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') { // RFC 5322 §2.2.3
			if name != "" {
				fields[name] += string(line)
			}
			continue
		}
		key, value, found := strings.Cut(string(line), ":")
		name = strings.ToLower(strings.TrimSpace(key))
		if _, twice := fields[name]; !found || twice {
			name = ""
			continue
		}
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}

// toUTF8 takes bytes that are not UTF-8 (RFC 6532) for Windows-1252, which
// most such mails are in.
func toUTF8(raw []byte) []byte {
	if len(raw) >= maxHead { // it was cut, perhaps within a letter
		if _, size := utf8.DecodeLastRune(raw); size == 1 && raw[len(raw)-1] >= utf8.RuneSelf {
			raw = bytes.TrimRightFunc(raw, func(r rune) bool { return r == utf8.RuneError })
		}
	}
	if utf8.Valid(raw) {
		return raw
	}
	text, err := charmap.Windows1252.NewDecoder().Bytes(raw)
	if err != nil {
		return bytes.ToValidUTF8(raw, []byte("\uFFFD"))
	}
	return text
}

// words decodes encoded words (RFC 2047).
var words = mime.WordDecoder{CharsetReader: charset.Reader}

// decode leaves a text as it is if its words cannot be decoded.
func decode(s string) string {
	if text, err := words.DecodeHeader(s); err == nil {
		return text
	}
	return s
}

// correspondents reads a list of addresses (RFC 5322 §3.4). One that is not
// well formed is given as a name.
func correspondents(s string) []Correspondent {
	list := []Correspondent{}
	if s == "" {
		return list
	}
	parser := stdmail.AddressParser{WordDecoder: &words}
	parsed, err := parser.ParseList(s)
	if err != nil {
		return append(list, malformed(s))
	}
	for _, a := range parsed[:min(len(parsed), maxAddresses)] {
		list = append(list, Correspondent{clean(decode(a.Name), maxNameBytes), clean(a.Address, maxNameBytes)})
	}
	return list
}

// malformed makes the best of a list that breaks the rules.
func malformed(s string) Correspondent {
	name, rest, found := strings.Cut(s, "<")
	address, _, closed := strings.Cut(rest, ">")
	if !found || !closed || !strings.Contains(address, "@") {
		return Correspondent{Name: clean(decode(s), maxNameBytes)}
	}
	return Correspondent{clean(decode(strings.Trim(name, `" `)), maxNameBytes), clean(address, maxNameBytes)}
}

// clean makes text of a stranger fit to show: valid, on one line, of at most
// limit bytes.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) { // which end lines, or turn them round
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.TrimSpace(s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") // without the letter that was cut
	}
	return s
}
