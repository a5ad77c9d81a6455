package mailbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Config says which mailbox is watched.
type Config struct {
	// IMAP is the address of a mailbox: imaps://user@host/folder, or imap:// for
	// STARTTLS; INBOX where it names no folder. An @ in the user is written %40 or as it is.
	IMAP string `yaml:"imap"`
	// PasswordFile holds the mailbox's password; its final newline is dropped.
	PasswordFile string `yaml:"password_file" path:"input"`
	// Insecure allows a login without TLS to a server on another machine.
	Insecure bool `yaml:"insecure"`
}

// Validate checks the address.
func (c Config) Validate() error {
	if c.IMAP == "" {
		if c.PasswordFile != "" || c.Insecure {
			return errors.New("password_file and insecure are for mailboxes; name one as imap: imaps://user@host/folder")
		}
		return nil // another kind of watch
	}
	if _, err := ParseAddress(c.IMAP); err != nil {
		return fmt.Errorf("imap: %w", err)
	}
	if c.PasswordFile == "" {
		return errors.New("password_file is missing; name a file that holds the mailbox's password")
	}
	return nil
}

// Address names a folder of a mailbox.
type Address struct {
	User   string
	Host   string // without port
	Port   string
	Folder string
	TLS    bool // from the first byte on (RFC 8314); else by STARTTLS
}

// maxName bounds what goes into a command.
const maxName = 255

// ParseAddress reads imaps://user@host:port/folder. Its errors do not repeat
// the address: it might hold a password.
func ParseAddress(raw string) (Address, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "imap" && u.Scheme != "imaps" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return Address{}, errors.New("it is not an address like imaps://user@host/folder")
	}
	if u.User.Username() == "" {
		return Address{}, errors.New("it names no user; write imaps://user@host/folder")
	}
	if _, has := u.User.Password(); has {
		return Address{}, errors.New("it holds a password, which would be shown and logged; put that into a file, or into CHAPPE_PASSWORD for chappe watch")
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && strings.Contains(u.Hostname(), ":") {
		return Address{}, errors.New("its host has a colon and is no IPv6 address")
	}
	a := Address{
		User: u.User.Username(), Host: strings.ToLower(u.Hostname()), Port: u.Port(),
		Folder: strings.Trim(u.Path, "/"), TLS: u.Scheme == "imaps",
	}
	if a.Folder == "" || strings.EqualFold(a.Folder, "INBOX") {
		a.Folder = "INBOX" // RFC 9051 §5.1: in any case of letters
	}
	if a.Port == "" {
		a.Port = map[bool]string{true: "993", false: "143"}[a.TLS]
	}
	if port, err := strconv.ParseUint(a.Port, 10, 16); err != nil || port == 0 {
		return Address{}, fmt.Errorf("there is no port %s; write 993 for imaps, 143 for imap, or none", clean(a.Port, 20))
	}
	for _, name := range []string{a.User, a.Host, a.Folder} {
		if err := checkText(name); err != nil {
			return Address{}, err
		}
	}
	return a, nil
}

// checkText refuses what could end a command and begin another.
func checkText(s string) error {
	if len(s) > maxName {
		return fmt.Errorf("a name in it has %d bytes, at most %d are taken", len(s), maxName)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("a name in it has a control character, or is not UTF-8")
	}
	return nil
}

// String is the address in full.
func (a Address) String() string {
	scheme := "imap"
	if a.TLS {
		scheme = "imaps"
	}
	u := url.URL{Scheme: scheme, User: url.User(a.User), Host: a.hostPort(), Path: "/" + a.Folder}
	return u.String()
}

func (a Address) hostPort() string { return net.JoinHostPort(a.Host, a.Port) }

// mailbox names the folder in the manner of RFC 5092. Scheme and port are left
// out: another way to the same mailbox does not make it another.
func (a Address) mailbox() string { return a.User + "@" + a.Host + "/" + a.Folder }

// mailID names one mail (RFC 5092 §4).
func (a Address) mailID(validity, uid uint32) string {
	return fmt.Sprintf("%s;UIDVALIDITY=%d/;UID=%d", a.mailbox(), validity, uid)
}

// onThisMachine reports whether the bytes never leave it.
func onThisMachine(conn net.Conn) bool {
	addr, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	return err == nil && addr.Addr().Unmap().IsLoopback()
}
