package mailbox

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/event"
)

// lines are header fields as they are on the wire.
func lines(fields ...string) string { return strings.Join(fields, "\r\n") + "\r\n\r\n" }

func TestSubject(t *testing.T) {
	tests := []struct{ name, field, want string }{
		{"plain", "Subject: Hello, world", "Hello, world"},
		{"lower case", "subject:Hello", "Hello"},
		{"space before the colon", "Subject : Hello", "Hello"},
		{"empty", "Subject:", ""},
		{"missing", "X-Subject: no", ""},
		{"UTF-8 in Q", "Subject: =?utf-8?Q?caf=C3=A9_au_lait?=", "café au lait"},
		{"UTF-8 in B", "Subject: =?UTF-8?B?Y2Fmw6k=?=", "café"},
		{"two words", "Subject: =?utf-8?q?caf=C3=A9?= =?utf-8?q?_noir?=", "café noir"},
		{"two words and a fold", "Subject: =?utf-8?q?caf=C3=A9?=\r\n\t=?utf-8?q?_noir?=", "café noir"},
		{"a word within text", "Subject: Re: =?iso-8859-1?q?caf=E9?= noir", "Re: café noir"},
		{"ISO-2022-JP", "Subject: =?ISO-2022-JP?B?GyRCJDMkcyRLJEEkTxsoQg==?=", "こんにちは"},
		{"windows-1252", "Subject: =?windows-1252?Q?=93caf=E9=94_=80_5?=", "“café” € 5"},
		{"KOI8-R", "Subject: =?koi8-r?B?8NLJ18XU?=", "Привет"},
		{"GB2312", "Subject: =?GB2312?B?xOO6ww==?=", "你好"},
		{"language (RFC 2231)", "Subject: =?utf-8*en?Q?caf=C3=A9?=", "=?utf-8*en?Q?caf=C3=A9?="},
		{"unknown charset", "Subject: =?x-klingon?Q?caf=C3=A9?= here", "=?x-klingon?Q?caf=C3=A9?= here"},
		{"broken base64", "Subject: =?utf-8?B?@@@@?= x", "=?utf-8?B?@@@@?= x"},
		{"unfinished word", "Subject: =?utf-8?Q?caf", "=?utf-8?Q?caf"},
		{"broken Q", "Subject: =?utf-8?Q?caf=ZZ?=", "=?utf-8?Q?caf=ZZ?="},
		{"word of bytes that are not its charset", "Subject: =?utf-8?Q?caf=E9?=", "caf\uFFFD"},
		{"raw latin1", "Subject: caf\xe9 \x80", "café €"},
		{"raw UTF-8", "Subject: café 你好", "café 你好"},
		{"raw UTF-8 and a word", "Subject: café =?utf-8?q?=C3=A9?=", "café é"},
		{"folded", "Subject: one\r\n two\r\n\tthree", "one two three"},
		{"folded after the colon", "Subject:\r\n one", "one"},
		{"folded by line feeds alone", "Subject: one\n two", "one two"},
		{"twice", "Subject: first\r\nSubject: second\r\n third", "first"},
		{"not a field", "no colon here\r\n not folded\r\nSubject: yes", "yes"},
		{"header injection by a word", "Subject: =?utf-8?Q?a=0D=0ABcc:_x=00=1B[2J?=", "a  Bcc: x  [2J"},
		{"bare CR, NUL, ESC, DEL, C1", "Subject: a\rb\x00c\x1b[31md\x7fe\u0085f", "a b c [31md e f"},
		{"what turns a line round", "Subject: abc\u202Efdp.exe\u2066\u200F", "abc fdp.exe"},
		{"line separators", "Subject: a\u2028b\u2029c", "a b c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := parseHead([]byte(lines("From: a@b.example", tt.field)))
			if h.Subject != tt.want {
				t.Errorf("subject = %q, want %q", h.Subject, tt.want)
			}
			if len(h.From) != 1 || h.From[0].Address != "a@b.example" {
				t.Errorf("from = %+v: the subject touched it", h.From)
			}
		})
	}
}

func TestSubjectLength(t *testing.T) {
	tests := []struct {
		name, subject string
		want          int // bytes
	}{
		{"fits", strings.Repeat("s", maxSubject), maxSubject},
		{"a byte too long", strings.Repeat("s", maxSubject+1), maxSubject},
		{"15 KB", strings.Repeat("s", 15_000), maxSubject},
		{"within a letter", "s" + strings.Repeat("\u20AC", 400), maxSubject - 1}, // 1+3*332 = 997
		{"15 KB of encoded words", strings.Repeat("=?utf-8?q?=E2=82=AC?= ", 600), maxSubject - 2},
	}
	for _, tt := range tests {
		h := parseHead([]byte(lines("Subject: " + tt.subject)))
		if len(h.Subject) != tt.want || !utf8.ValidString(h.Subject) {
			t.Errorf("%s: %d bytes, want %d", tt.name, len(h.Subject), tt.want)
		}
	}
}

func TestCorrespondents(t *testing.T) {
	ann := []Correspondent{{"Ann", "ann@a.example"}}
	tests := []struct {
		name, field string
		want        []Correspondent
	}{
		{"missing", "", []Correspondent{}},
		{"empty", "To: ", []Correspondent{}},
		{"address", "To: ann@a.example", []Correspondent{{"", "ann@a.example"}}},
		{"angle", "To: <ann@a.example>", []Correspondent{{"", "ann@a.example"}}},
		{"name", "To: Ann <ann@a.example>", ann},
		{"quoted name", `To: "Ann" <ann@a.example>`, ann},
		{"comma in the name", `To: "B, Ann" <ann@a.example>, bob@b.example`, []Correspondent{{"B, Ann", "ann@a.example"}, {"", "bob@b.example"}}},
		{"encoded name", "To: =?iso-8859-1?q?Andr=E9?= <andre@a.example>", []Correspondent{{"André", "andre@a.example"}}},
		{"Japanese name", "To: =?ISO-2022-JP?B?GyRCJDMkcyRLJEEkTxsoQg==?= <k@a.example>", []Correspondent{{"こんにちは", "k@a.example"}}},
		{"raw UTF-8", "To: André <andré@é.example>", []Correspondent{{"André", "andré@é.example"}}},
		{"raw latin1", "To: Andr\xe9 <andre@a.example>", []Correspondent{{"André", "andre@a.example"}}},
		{"folded", "To: Ann\r\n\t<ann@a.example>,\r\n bob@b.example", append(ann[:1:1], Correspondent{"", "bob@b.example"})},
		{"comment", "To: ann@a.example (Ann)", ann},
		{"group", "To: friends: Ann <ann@a.example>, bob@b.example;, carl@c.example",
			[]Correspondent{{"Ann", "ann@a.example"}, {"", "bob@b.example"}, {"", "carl@c.example"}}},
		{"empty group", "To: undisclosed-recipients:;", []Correspondent{}},
		{"only a name", "To: Ann", []Correspondent{{Name: "Ann"}}},
		{"unknown charset", "To: =?x-klingon?q?Ann?= <ann@a.example>", []Correspondent{{"=?x-klingon?q?Ann?=", "ann@a.example"}}},
		{"unquoted dot and at", "To: Ann @ work. <ann@a.example>", []Correspondent{{"Ann @ work.", "ann@a.example"}}},
		{"unclosed angle", "To: Ann <ann@a.example", []Correspondent{{Name: "Ann <ann@a.example"}}},
		{"unclosed quote", `To: "Ann <ann@a.example>`, ann},
		{"encoded in quotes", `To: "=?utf-8?q?Andr=C3=A9?=" <andre@a.example>`, []Correspondent{{"André", "andre@a.example"}}},
		{"missing address", "To: Ann <>", []Correspondent{{Name: "Ann <>"}}},
		{"injection by a word", "To: =?utf-8?q?Ann=0D=0ABcc:_x=00?= <ann@a.example>", []Correspondent{{"Ann  Bcc: x", "ann@a.example"}}},
		{"garbage", "To: \x01\x02,;<>@(((", []Correspondent{{Name: ",;<>@((("}}},
		{"twice", "To: Ann <ann@a.example>\r\nTo: bob@b.example", ann},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := parseHead([]byte(lines(tt.field, "Subject: s")))
			if diff := cmp.Diff(tt.want, h.To); diff != "" {
				t.Errorf("to (-want +got):\n%s", diff)
			}
			if h.Subject != "s" {
				t.Errorf("subject = %q: the addresses touched it", h.Subject)
			}
			from := parseHead([]byte(lines(strings.ReplaceAll(tt.field, "To:", "From:"))))
			if diff := cmp.Diff(tt.want, from.From); diff != "" {
				t.Errorf("the same as from (-want +got):\n%s", diff)
			}
		})
	}
}

func TestManyCorrespondents(t *testing.T) {
	list := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("Number %d <n%d@a.example>", i, i))
		}
		return "To: " + strings.Join(all, ",\r\n ")
	}
	for n, want := range map[int]int{maxAddresses: maxAddresses, maxAddresses + 1: maxAddresses, 200: maxAddresses} {
		h := parseHead([]byte(lines(list(n))))
		if len(h.To) != want || h.To[want-1].Address != fmt.Sprintf("n%d@a.example", want-1) {
			t.Errorf("%d recipients give %d, want the first %d", n, len(h.To), want)
		}
	}
	cut := []byte(list(2000))[:maxHead] // the server cuts within one of them
	h := parseHead(cut)
	if len(h.To) == 0 || h.To[0].Address != "n0@a.example" {
		t.Errorf("a list that was cut gives %+v, want at least the first", h.To)
	}
	long := strings.Repeat("n", 1000)
	h = parseHead([]byte(lines("To: "+long+" <"+long+"@a.example>", "Message-ID: <"+long+">")))
	if len(h.To[0].Name) != maxNameBytes || len(h.To[0].Address) != maxNameBytes || len(h.MessageID) != maxNameBytes {
		t.Errorf("long names give %d, %d and %d bytes, want %d", len(h.To[0].Name), len(h.To[0].Address), len(h.MessageID), maxNameBytes)
	}
}

func TestDate(t *testing.T) {
	tests := []struct{ field, want string }{ // "": none
		{"Sat, 21 Nov 2026 14:06:12 +0100", "2026-11-21T13:06:12Z"},
		{"21 Nov 2026 14:06 +0000", "2026-11-21T14:06:00Z"},
		{"Sat, 21 Nov 26 14:06:12 +0000", "2026-11-21T14:06:12Z"},
		{"Sat, 21 Nov 2026 14:06:12 +0100 (CET)", "2026-11-21T13:06:12Z"},
		{"Sat, 21 Nov 2026 14:06:12 GMT", "2026-11-21T14:06:12Z"},
		{"Sat, 21 Nov 2026\r\n 14:06:12 -0000", "2026-11-21T14:06:12Z"},
		{"Sat, 21 Nov 2026 14:06:12 Z", ""},
		{"", ""},
		{"yesterday", ""},
		{"2026-11-21T14:06:12Z", ""},
		{"Sat, 31 Nov 2026 14:06:12 +0000", ""},
		{"Sat, 01 Jan 0000 00:00:00 +0000", ""},
		{"Sat, 01 Jan 10000 00:00:00 +0000", ""},
		{"Fri, 31 Dec 9999 23:59:59 +0000", "9999-12-31T23:59:59Z"},
		{"Fri, 31 Dec 9999 23:59:59 -0100", ""}, // in UTC that is the year 10000
		{"Mon, 01 Jan 0001 00:00:00 +0100", ""}, // in UTC that is the year 0
		{"Sat, 21 Nov 2026 14:06:12 +9999", ""},
	}
	for _, tt := range tests {
		h := parseHead([]byte(lines("Date: "+tt.field, "Subject: s")))
		got := ""
		if h.Date != nil {
			got = h.Date.Format(time.RFC3339)
		}
		if got != tt.want {
			t.Errorf("Date: %s gives %q, want %q", tt.field, got, tt.want)
		}
		if _, err := json.Marshal(h); err != nil {
			t.Errorf("Date: %s: %v", tt.field, err)
		}
	}
	// A zone by its letters has no offset that can be known (RFC 5322 §4.3).
	if h := parseHead([]byte(lines("Date: Sat, 21 Nov 2026 14:06:12 PST"))); h.Date == nil || h.Date.Year() != 2026 {
		t.Errorf("an obsolete zone gives %v", h.Date)
	}
}

func TestMessageID(t *testing.T) {
	tests := []struct{ field, want string }{
		{"Message-ID: <a.b@c.example>", "a.b@c.example"},
		{"Message-Id:\r\n <a.b@c.example>", "a.b@c.example"},
		{"MESSAGE-ID: a.b@c.example", "a.b@c.example"},
		{"Message-ID: <a\x00\x1bb>", "a  b"},
		{"Message-ID:", ""},
		{"X: y", ""},
	}
	for _, tt := range tests {
		if got := parseHead([]byte(lines(tt.field))).MessageID; got != tt.want {
			t.Errorf("%q gives %q, want %q", tt.field, got, tt.want)
		}
	}
}

// TestCutHead holds a head that the server has cut: its bytes mean what they
// meant before.
func TestCutHead(t *testing.T) {
	for shift := range 4 {
		start := "Subject: café\r\n" + strings.Repeat("x", shift) + "X: "
		raw := []byte(start + strings.Repeat("\U0001F4E7", maxHead/4))[:maxHead]
		if h := parseHead(raw); h.Subject != "café" {
			t.Errorf("cut %d bytes on, the subject is %q", shift, h.Subject)
		}
	}
	raw := []byte("Subject: " + strings.Repeat("\u20AC", 10))
	for n := range raw { // one that ends by itself is whole: what is broken there is another charset
		h := parseHead(raw[:n])
		if !utf8.ValidString(h.Subject) {
			t.Errorf("of %d bytes, the subject is %q", n, h.Subject)
		}
	}
}

// TestHugeHead holds a server that does not cut, as it was asked to.
func TestHugeHead(t *testing.T) {
	folds := strings.Repeat(" x\n", maxLiteral/3)
	tests := map[string]string{
		"folded lines":  "Subject: s\n" + folds,
		"fields":        strings.Repeat("A: b\n", maxLiteral/5),
		"addresses":     "To: " + strings.Repeat("a@b,", maxLiteral/4),
		"comments":      "To: " + strings.Repeat("(", maxLiteral),
		"quotes":        "To: " + strings.Repeat(`"\`, maxLiteral/2),
		"angles":        "From: " + strings.Repeat("<", maxLiteral),
		"groups":        "From: " + strings.Repeat("a:", maxLiteral/2),
		"domain":        "From: a@[" + strings.Repeat("[", maxLiteral),
		"encoded words": "Subject: " + strings.Repeat("=?utf-8?q?a?= ", maxLiteral/14),
		"question mark": "Subject: " + strings.Repeat("=?", maxLiteral/2),
		"date":          "Date: " + strings.Repeat("(", maxLiteral),
	}
	for name, raw := range tests {
		started := time.Now()
		h := parseHead([]byte(raw))
		if took := time.Since(started); took > 2*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
		checkHead(t, h)
	}
}

// checkHead holds what every head must keep, whatever it was read from.
func checkHead(t *testing.T, h head) {
	t.Helper()
	text := func(what, s string, limit int) {
		if len(s) > limit || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
			t.Errorf("%s = %q, of %d bytes, at most %d", what, s, len(s), limit)
		}
	}
	text("subject", h.Subject, maxSubject)
	text("message id", h.MessageID, maxNameBytes)
	for _, list := range [][]Correspondent{h.From, h.To} {
		if list == nil || len(list) > maxAddresses {
			t.Errorf("a list of %d addresses, nil: %v", len(list), list == nil)
		}
		for _, c := range list {
			text("name", c.Name, maxNameBytes)
			text("address", c.Address, maxNameBytes)
		}
	}
}

func TestEmptyListsAreLists(t *testing.T) {
	text, err := json.Marshal(receivedData{head: parseHead(nil), Flags: tellable(nil)})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"account":"","folder":"","uidvalidity":0,"unseen":0,"uid":0,"message_id":"","from":[],"to":[],"subject":"","size":0,"flags":[]}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("data of a mail without head (-want +got):\n%s", diff)
	}
}

func TestTellable(t *testing.T) {
	var many []imap.Flag
	for i := range 60 {
		many = append(many, imap.Flag(fmt.Sprint("k", i)))
	}
	tests := []struct {
		flags, want []imap.Flag
	}{
		{nil, []imap.Flag{}},
		{[]imap.Flag{`\Recent`, `\Seen`, `\recent`, "$Work"}, []imap.Flag{`\Seen`, "$Work"}},
		{[]imap.Flag{imap.Flag(strings.Repeat("k", maxFlagBytes+1)), imap.Flag(strings.Repeat("k", maxFlagBytes))}, []imap.Flag{imap.Flag(strings.Repeat("k", maxFlagBytes))}},
		{many, many[:maxFlags]},
	}
	for _, tt := range tests {
		given := append([]imap.Flag(nil), tt.flags...)
		if diff := cmp.Diff(tt.want, tellable(given)); diff != "" {
			t.Errorf("tellable(%v) (-want +got):\n%s", tt.flags, diff)
		}
	}
}

// TestFit holds that an event is cut to any limit that the configuration
// takes, whatever the mail says and however long the folder's names are.
func TestFit(t *testing.T) {
	name := strings.Repeat("n", maxName)
	worst := strings.Repeat("<", 400) // six bytes each in JSON
	var flags []imap.Flag
	for i := range maxFlags {
		flags = append(flags, imap.Flag(fmt.Sprintf("%s%d", strings.Repeat("<", maxFlagBytes-2), i)))
	}
	about := folderData{Account: name, Folder: name, Validity: 1<<32 - 1, Unseen: 1<<32 - 1}
	for _, limit := range []int{1024, 1100, 1500, 2048, 4096, 16 << 10, 256 << 10} {
		to := strings.Repeat("\""+worst+"\" <a@b.example>,", 20)
		d := receivedData{folderData: about, UID: 1<<32 - 1, Size: 1<<63 - 1, Flags: tellable(append([]imap.Flag(nil), flags...)),
			head: parseHead([]byte(lines("Subject: "+worst, "From: \""+worst+"\" <a@b.example>", "To: "+to+"a@b.example", "Message-ID: <"+worst+">", "Date: Sat, 21 Nov 2026 14:06:12 +0100")))}
		whole := d
		d.fit(limit)
		text, err := json.Marshal(d)
		if err != nil || len(text) > limit {
			t.Errorf("limit %d: %d bytes, %v", limit, len(text), err)
		}
		if d.UID != whole.UID || d.folderData != about || d.Size != whole.Size || d.From == nil || d.To == nil || d.Flags == nil {
			t.Errorf("limit %d: %s", limit, text)
		}
		if limit >= 256<<10 && !cmp.Equal(whole, d, cmp.AllowUnexported(receivedData{})) {
			t.Errorf("limit %d: something was cut that fits: %s", limit, text)
		}
	}
	ordinary := receivedData{folderData: folderData{Account: "alice", Folder: "INBOX"}, Flags: []imap.Flag{`\Seen`},
		head: parseHead([]byte(lines("Subject: short", "From: ann@a.example", "To: "+strings.Repeat("bob@b.example, ", 100)+"bob@b.example")))}
	ordinary.fit(1024)
	if ordinary.Subject != "short" || len(ordinary.From) != 1 || len(ordinary.Flags) != 1 || len(ordinary.To) != 0 {
		t.Errorf("more is cut than needs be: %+v", ordinary)
	}
}

// Whatever a mail says, what is told of it is fit to show, bounded, and an
// event that is taken.
func FuzzHead(f *testing.F) {
	for _, seed := range []string{
		lines("Subject: =?utf-8?Q?caf=C3=A9?=", "From: Ann <ann@a.example>", "To: g: a@b, c@d;", "Date: Sat, 21 Nov 2026 14:06:12 +0100", "Message-ID: <a@b>"),
		lines("Subject: =?ISO-2022-JP?B?GyRCJDMkcyRLJEEkTxsoQg==?=", "From: caf\xe9 <a@b", "Date: Fri, 31 Dec 9999 23:59:59 -0100"),
		"Subject: =?x?Q?=00=1B?=\n\t\x00\u2028\x7f\x9b", "To: \"<\u20AC", "\xff:\xff\r\n \xff", "",
		lines("Date: Mon, 01 Jan 0001 00:00:00 +0100", "To: =?iso-8859-1?q?=0A?= <\"a\\\n\"@b>"),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := parseHead(raw)
		checkHead(t, h)
		d := receivedData{head: h, Flags: []imap.Flag{}}
		for _, limit := range []int{256 << 10, 1024} {
			d.fit(limit)
			text, err := json.Marshal(d)
			if err != nil || len(text) > limit {
				t.Fatalf("limit %d: %d bytes, %v", limit, len(text), err)
			}
			e := event.Event{ID: "x", Source: "/mailboxes/x", Type: "mail.received", Topic: "mail", Subject: d.Subject, Data: text}
			if err := e.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
