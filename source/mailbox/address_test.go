package mailbox

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/event"
)

func TestParseAddress(t *testing.T) {
	long := strings.Repeat("x", maxName)
	tests := []struct {
		raw  string
		want Address
		full string // what String says
	}{
		{"imaps://alice@mail.example", Address{"alice", "mail.example", "993", "INBOX", true}, "imaps://alice@mail.example:993/INBOX"},
		{"imap://alice@mail.example", Address{"alice", "mail.example", "143", "INBOX", false}, "imap://alice@mail.example:143/INBOX"},
		{"IMAPS://alice@Mail.Example/", Address{"alice", "mail.example", "993", "INBOX", true}, "imaps://alice@mail.example:993/INBOX"},
		{"imaps://alice@mail.example:10993/inBox", Address{"alice", "mail.example", "10993", "INBOX", true}, "imaps://alice@mail.example:10993/INBOX"},
		{"imaps://alice@mail.example:/iNbOx/", Address{"alice", "mail.example", "993", "INBOX", true}, "imaps://alice@mail.example:993/INBOX"},
		{"imaps://alice@mail.example/Lists/go/nuts", Address{"alice", "mail.example", "993", "Lists/go/nuts", true}, "imaps://alice@mail.example:993/Lists/go/nuts"},
		{"imaps://alice@mail.example/inbox/sub", Address{"alice", "mail.example", "993", "inbox/sub", true}, "imaps://alice@mail.example:993/inbox/sub"},
		{"imaps://alice@mail.example@host", Address{"alice@mail.example", "host", "993", "INBOX", true}, "imaps://alice%40mail.example@host:993/INBOX"},
		{"imaps://alice%40mail.example@host", Address{"alice@mail.example", "host", "993", "INBOX", true}, "imaps://alice%40mail.example@host:993/INBOX"},
		{"imaps://a%3Ab%2Fc@host/50%25%20%3F%23", Address{"a:b/c", "host", "993", "50% ?#", true}, "imaps://a%3Ab%2Fc@host:993/50%25%20%3F%23"},
		{"imaps://zo%C3%A9@host/Entw%C3%BCrfe", Address{"zoé", "host", "993", "Entwürfe", true}, "imaps://zo%C3%A9@host:993/Entw%C3%BCrfe"},
		{"imaps://zo%C3%A9@host/Entwürfe", Address{"zoé", "host", "993", "Entwürfe", true}, "imaps://zo%C3%A9@host:993/Entw%C3%BCrfe"},
		{"imap://alice@[::1]:1143", Address{"alice", "::1", "1143", "INBOX", false}, "imap://alice@[::1]:1143/INBOX"},
		{"imaps://alice@[2001:DB8::1]/x", Address{"alice", "2001:db8::1", "993", "x", true}, "imaps://alice@[2001:db8::1]:993/x"},
		{"imap://alice@192.0.2.1", Address{"alice", "192.0.2.1", "143", "INBOX", false}, "imap://alice@192.0.2.1:143/INBOX"},
		{"imaps://" + long + "@h/" + long, Address{long, "h", "993", long, true}, "imaps://" + long + "@h:993/" + long},
	}
	for _, tt := range tests {
		got, err := ParseAddress(tt.raw)
		if err != nil {
			t.Errorf("ParseAddress(%q): %v", tt.raw, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("ParseAddress(%q) (-want +got):\n%s", tt.raw, diff)
		}
		if full := got.String(); full != tt.full {
			t.Errorf("ParseAddress(%q).String() = %q, want %q", tt.raw, full, tt.full)
		}
		if again, err := ParseAddress(got.String()); err != nil || again != got {
			t.Errorf("ParseAddress(%q) = %+v, %v; want what its String came from, %+v", got.String(), again, err, got)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	const secret = "s3cr3t"
	long := strings.Repeat("x", maxName+1)
	tests := []struct{ raw, want string }{
		{"", "not an address"},
		{"alice@mail.example", "not an address"},
		{"https://alice@mail.example/INBOX", "not an address"},
		{"imapss://alice@mail.example", "not an address"},
		{"imaps:alice@mail.example", "not an address"},
		{"imaps://alice@/INBOX", "not an address"},
		{"imaps://alice@:993/INBOX", "not an address"},
		{"imaps://alice@mail::/INBOX", "no IPv6 address"},
		{"imaps://alice@[mail:1]/INBOX", "an"},
		{"imaps://mail.example/INBOX", "no user"},
		{"imaps://@mail.example/INBOX", "no user"},
		{"imaps://alice:" + secret + "@mail.example", "password"},
		{"imaps://alice:@mail.example", "password"},
		{"imaps://alice:" + secret + "@mail.example:port/", "not an address"},
		{"imaps://alice:" + secret + "@mail.example/%zz", "not an address"},
		{"imaps://alice:" + secret + "\n@mail.example", "not an address"},
		{"imaps://alice:" + secret + "%0A@mail.example", "password"},
		{"imaps://alice@mail.example/INBOX?" + secret, "not an address"},
		{"imaps://alice@mail.example/INBOX#" + secret, "not an address"},
		{"imaps://alice@mail.example:0/", "port 0"},
		{"imaps://alice@mail.example:65536/", "port 65536"},
		{"imaps://alice@mail.example:99999999999999999999/", "port 99999999999999999999"},
		{"imaps://alice%0D%0AA1%20DELETE%20INBOX@mail.example", "control character"},
		{"imaps://alice@mail.example/x%0Ay", "control character"},
		{"imaps://alice@mail.example/x%00", "control character"},
		{"imaps://alice@mail.example/x%7F", "control character"},
		{"imaps://alice@mail.example/x%C2%85", "control character"},
		{"imaps://alice@mail.example/x%FF", "not UTF-8"},
		{"imaps://ali%FFce@mail.example/", "not UTF-8"},
		{"imaps://alice@mail%0A.example/", "not an address"},
		{"imaps://" + long + "@mail.example", "at most 255"},
		{"imaps://alice@mail.example/" + long, "at most 255"},
		{"imaps://alice@" + long + "/", "at most 255"},
	}
	for _, tt := range tests {
		a, err := ParseAddress(tt.raw)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseAddress(%q) = %+v, %v; want an error about %q", tt.raw, a, err, tt.want)
			continue
		}
		if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), long) {
			t.Errorf("ParseAddress(%q): %v, which repeats what was given", tt.raw, err)
		}
	}
}

// Whatever is taken can be written and read again, and names mails within the
// bounds of an event.
func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{
		"imaps://alice@mail.example/INBOX", "imap://a%40b@[::1]:1143/x/y%2Fz", "imaps://a@h/%E2%80%A8", "imaps://a@[fe80::1%25eth0]/", "imaps://a:p@h",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := ParseAddress(raw)
		if err != nil {
			return
		}
		if again, err := ParseAddress(a.String()); err != nil || again != a {
			t.Errorf("ParseAddress(%q) = %+v, whose String %q gives %+v, %v", raw, a, a.String(), again, err)
		}
		if strings.ContainsFunc(a.User+a.Host+a.Folder, unicode.IsControl) || !utf8.ValidString(a.User+a.Host+a.Folder) {
			t.Errorf("ParseAddress(%q) = %+q", raw, a)
		}
		e := event.Event{ID: a.mailID(1<<32-1, 1<<32-1), Source: "/mailboxes/x", Type: "mail.received", Topic: "mail"}
		if err := e.Validate(); err != nil {
			t.Errorf("an event about a mail of %q: %v", raw, err)
		}
	})
}

func TestMailID(t *testing.T) {
	a, err := ParseAddress("imap://alice@mail.example@mail.example:1143/Lists/go")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := a.mailID(7, 42), "alice@mail.example@mail.example/Lists/go;UIDVALIDITY=7/;UID=42"; got != want {
		t.Errorf("mailID = %q, want %q", got, want)
	}
	b := a
	b.TLS, b.Port = true, "993"
	if a.mailID(7, 42) != b.mailID(7, 42) {
		t.Error("another way to a mail makes it another mail")
	}
	name := strings.Repeat("\u20AC", maxName/3)
	longest := Address{User: name, Host: strings.Repeat("h", maxName), Port: "65535", Folder: name}
	if n := len(longest.mailID(1<<32-1, 1<<32-1)); n >= 1024 {
		t.Errorf("the longest mailID has %d bytes, an event's may have 1024", n)
	}
}

func TestConfigValidate(t *testing.T) {
	tests := []struct {
		config Config
		want   string // "": it is fine
	}{
		{Config{}, ""},
		{Config{PasswordFile: "pw"}, "are for mailboxes"},
		{Config{Insecure: true}, "are for mailboxes"},
		{Config{IMAP: "imaps://alice@mail.example", PasswordFile: "pw"}, ""},
		{Config{IMAP: "imap://alice@mail.example", PasswordFile: "pw", Insecure: true}, ""},
		{Config{IMAP: "imaps://alice@mail.example"}, "password_file is missing"},
		{Config{IMAP: "mail.example", PasswordFile: "pw"}, "imap: it is not an address"},
		{Config{IMAP: "imaps://alice:s3cr3t@mail.example", PasswordFile: "pw"}, "imap: it holds a password"},
	}
	for _, tt := range tests {
		err := tt.config.Validate()
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cr3t")) {
			t.Errorf("%+v: %v, want %q", tt.config, err, tt.want)
		}
	}
}

// far is a connection to an address.
type far struct {
	net.Conn
	addr net.Addr
}

func (c far) RemoteAddr() net.Addr { return c.addr }

func TestOnThisMachine(t *testing.T) {
	tests := []struct {
		addr net.Addr
		want bool
	}{
		{net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:143")), true},
		{net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.8.8.8:143")), true},
		{net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[::1]:143")), true},
		{net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[::ffff:127.0.0.1]:143")), true},
		{net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[::ffff:192.0.2.1]:143")), false},
		{net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:143")), false},
		{net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.1:143")), false},
		{net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[::]:143")), false},
		{net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[fe80::1%lo]:143")), false},
		{&net.UnixAddr{Name: "/run/imap"}, false},
	}
	for _, tt := range tests {
		if got := onThisMachine(far{addr: tt.addr}); got != tt.want {
			t.Errorf("onThisMachine(%v) = %v, want %v", tt.addr, got, tt.want)
		}
	}
}
