package mailbox_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/source"
	"github.com/chappe/chappe/source/mailbox"
)

// isParked reports whether err waits for a person.
func isParked(err error) bool {
	_, parked := errors.AsType[*source.ParkError](err)
	return parked
}

func TestLogInRefused(t *testing.T) {
	tests := []struct {
		answer string
		parked bool
		want   string
	}{
		{"NO [AUTHENTICATIONFAILED] wrong user or password", true, "wrong user or password; correct"},
		{"NO wrong", true, "refused the login: wrong"},
		{"NO", true, "refused the login"},
		{"NO [AUTHORIZATIONFAILED] not you", true, "not you"},
		{"NO [EXPIRED] too old", true, "too old"},
		{"NO [PRIVACYREQUIRED] not in the clear", true, "not in the clear"},
		{"NO [CONTACTADMIN] call us", true, "call us"},
		{"NO a\x1b[31m\x00b\xff", true, "a [31m b\uFFFD"},
		{"NO [UNAVAILABLE] the directory is down", false, "the directory is down"},
		{"NO [INUSE] locked", false, "locked"},
		{"NO [LIMIT] too many", false, "too many"},
		{"NO [SERVERBUG] oops", false, "oops"},
		{"BAD what?", false, "BAD: what?"},
	}
	for _, capabilities := range []string{allCaps, "IMAP4rev1 IDLE"} {
		for _, tt := range tests {
			synctest.Test(t, func(t *testing.T) {
				s, m := newServer("a"), &memory{}
				s.caps = capabilities
				s.hook = func(c *talk, tag, verb, _ string) bool {
					if verb == "AUTHENTICATE" || verb == "LOGIN" {
						c.send(tag + " " + tt.answer)
						return true
					}
					return false
				}
				err := start(t, s, newRunner(s, m)).fails()
				if isParked(err) != tt.parked || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: Run = %v, parked: %v; want %q, %v", tt.answer, err, isParked(err), tt.want, tt.parked)
				}
				if strings.Contains(err.Error(), "secret") || len(m.take()) > 0 {
					t.Errorf("%s: Run = %v, which tells the password, or something was published", tt.answer, err)
				}
			})
		}
	}
}

func TestFolderRefused(t *testing.T) {
	tests := []struct {
		answer string
		list   string // what LIST says
		parked bool
		want   string
	}{
		{"NO [NONEXISTENT] no such mailbox", "", true, `"INBOX" cannot be opened: no such mailbox; correct the folder`},
		{"NO [NOPERM] not yours", "", true, "not yours"},
		{"NO [UNAVAILABLE] not now", "TAG OK done", false, "not now"},
		{"NO no such mailbox", "TAG OK done", true, "no such mailbox; correct the folder"},
		{"NO locked", "* LIST () \"/\" INBOX\r\nTAG OK done", false, "locked"},
		{"NO locked", "TAG NO", false, "locked"},
		{"NO locked", "TAG BAD what?", false, "locked"},
		{"BAD what?", "TAG OK done", false, "BAD: what?"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			s, m := newServer("a"), &memory{}
			examine, list := answers("EXAMINE", "TAG "+tt.answer), answers("LIST", tt.list)
			s.hook = func(c *talk, tag, verb, args string) bool {
				return examine(c, tag, verb, args) || list(c, tag, verb, args)
			}
			err := start(t, s, newRunner(s, m)).fails()
			if isParked(err) != tt.parked || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: Run = %v, parked: %v; want %q, %v", tt.answer, err, isParked(err), tt.want, tt.parked)
			}
		})
	}
}

func TestPasswordUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("a")
		r := newRunner(s, &memory{})
		r.Password = mailbox.PasswordIn(filepath.Join(t.TempDir(), "missing"))
		if err := start(t, s, r).fails(); !isParked(err) || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Run = %v, want it parked because of the file", err)
		}
		if len(s.talks) > 0 {
			t.Error("it connects all the same")
		}
	})
}

func TestPasswordIn(t *testing.T) {
	long := strings.Repeat("x", 1024)
	tests := []struct {
		content, want string // "": refused
	}{
		{"secret", "secret"}, {"secret\n", "secret"}, {"secret\r\n", "secret"}, {" secret \n", " secret "}, {"pässwörd\n", "pässwörd"},
		{long, long}, {long + "\r\n", long}, {"", ""}, {"\n", ""}, {"two\nlines\n", ""}, {"secret\n\n", ""}, {"a\x00b", ""}, {"a\rb", ""},
		{long + "x", ""}, {long + "x\n", ""}, {strings.Repeat(long, 1024), ""},
	}
	path := filepath.Join(t.TempDir(), "pw")
	password := mailbox.PasswordIn(path)
	for _, tt := range tests {
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := password()
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("password in %.30q = %.30q, %v; want %.30q", tt.content, got, err, tt.want)
		}
		if err != nil && tt.content != "" && strings.Contains(err.Error(), strings.TrimSpace(tt.content)+"x") {
			t.Errorf("password in %.30q: %v, which repeats it", tt.content, err)
		}
	}
	if _, err := mailbox.PasswordIn(t.TempDir())(); err == nil {
		t.Error("a folder has a password")
	}
}

// TestLogInOnTheWire holds what is sent, byte for byte.
func TestLogInOnTheWire(t *testing.T) {
	plain := func(password string) string {
		return base64.StdEncoding.EncodeToString([]byte("\x00alice\x00" + password))
	}
	const injection = "x\r\nT9 DELETE INBOX"
	tests := []struct {
		name, caps, password, want string
	}{
		{"AUTH=PLAIN is preferred", "IMAP4rev1 AUTH=PLAIN SASL-IR", "secret", "AUTHENTICATE PLAIN " + plain("secret") + "\r\n"},
		{"without initial response", "IMAP4rev1 AUTH=PLAIN", "secret", "AUTHENTICATE PLAIN\r\n" + plain("secret") + "\r\n"},
		{"any UTF-8", "IMAP4rev1 AUTH=PLAIN SASL-IR", "pä\"ss\\", "AUTHENTICATE PLAIN " + plain("pä\"ss\\") + "\r\n"},
		{"injection in PLAIN", "IMAP4rev1 AUTH=PLAIN SASL-IR", injection, "AUTHENTICATE PLAIN " + plain(injection) + "\r\n"},
		{"AUTH=PLAIN though LOGIN is disabled", "IMAP4rev1 AUTH=PLAIN SASL-IR LOGINDISABLED", "secret", "AUTHENTICATE PLAIN " + plain("secret") + "\r\n"},
		{"LOGIN", "IMAP4rev1", "secret", "LOGIN \"alice\" \"secret\"\r\n"},
		{"LOGIN where there are other ways", "IMAP4rev1 AUTH=XOAUTH2 AUTH=CRAM-MD5", "secret", "LOGIN \"alice\" \"secret\"\r\n"},
		{"LOGIN with a quote and a backslash", "IMAP4rev1", `a"b\c`, `LOGIN "alice" "a\"b\\c"` + "\r\n"},
		{"LOGIN with spaces and braces", "IMAP4rev1", " a {5} ", "LOGIN \"alice\" \" a {5} \"\r\n"},
		{"LOGIN beyond ASCII", "IMAP4rev1", "pässwörd", "LOGIN \"alice\" {10}\r\npässwörd\r\n"},
		{"injection in LOGIN", "IMAP4rev1", injection, "LOGIN \"alice\" {18}\r\n" + injection + "\r\n"},
		{"injection in LOGIN by a line feed", "IMAP4rev1", "x\nT9 LOGOUT", "LOGIN \"alice\" {11}\r\nx\nT9 LOGOUT\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, m := newServer("a"), &memory{}
				s.caps, s.password = tt.caps, tt.password
				r := newRunner(s, m)
				r.Password = func() (string, error) { return tt.password, nil }
				w := start(t, s, r)
				synctest.Wait()
				wire := s.sent()
				if !strings.Contains(wire, tt.want) {
					t.Errorf("sent:\n%q\nwant within:\n%q", wire, tt.want)
				}
				if rest := strings.Replace(wire, tt.want, "", 1); strings.Contains(rest, tt.password) {
					t.Errorf("the password is sent once more:\n%q", wire)
				}
				for _, command := range s.commands() {
					if strings.HasPrefix(command, "DELETE") || strings.HasPrefix(command, "LOGOUT") {
						t.Errorf("the password is taken for the command %s", command)
					}
				}
				if len(m.take()) == 0 && !strings.ContainsAny(tt.password, `"\`) { // this server does not unquote
					t.Error("the login did not do")
				}
				w.cancel()
				<-w.ended
				s.drop()
			})
		})
	}
}

func TestLogInDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("a")
		s.caps = "IMAP4rev1 LOGINDISABLED"
		err := start(t, s, newRunner(s, &memory{})).fails()
		if !isParked(err) || !strings.Contains(err.Error(), "LOGINDISABLED") {
			t.Errorf("Run = %v, want it parked because of LOGINDISABLED", err)
		}
		if strings.Contains(s.sent(), "secret") {
			t.Errorf("sent %q", s.sent())
		}
	})
}

// TestOffersAfterLogIn holds that what counts is what the server offers after
// the login, even if it has to be asked.
func TestOffersAfterLogIn(t *testing.T) {
	for range 20 { // there was a race
		synctest.Test(t, func(t *testing.T) {
			s, m := newServer("a"), &memory{}
			s.first, s.caps, s.silent = "IMAP4rev1 AUTH=PLAIN ESEARCH IDLE", "IMAP4rev1 CONDSTORE", true
			w := start(t, s, newRunner(s, m))
			w.settle()
			s.deliver("b")
			w.settle()
			w.stop()
			m.want(t, "a mail", "received 2")
			commands := strings.Join(s.commands(), "\n")
			if !strings.Contains(commands, "EXAMINE INBOX (CONDSTORE)") || strings.Contains(commands, "IDLE") || strings.Contains(commands, "SEARCH") {
				t.Errorf("commands:\n%s\nwant what is offered after the login", commands)
			}
		})
	}
}

// TestOnlyLooks holds that nothing is sent that could change the mailbox, or
// what its owner sees of it.
func TestOnlyLooks(t *testing.T) {
	onEachKind(t, func(t *testing.T, caps string) {
		s, m := newServer("a", "b"), &memory{}
		s.caps = caps
		w := start(t, s, newRunner(s, m))
		w.settle()
		s.deliver("c")
		s.flag(1, `\Seen`)
		s.expunge(2)
		w.settle()
		w.stop()
		verbs := map[string]bool{}
		for _, command := range s.commands() { // the server takes a FETCH with PEEK alone
			verb, _, _ := strings.Cut(strings.TrimPrefix(command, "UID "), " ")
			verbs[verb] = true
		}
		for _, verb := range []string{"CAPABILITY", "AUTHENTICATE", "EXAMINE", "FETCH", "SEARCH", "STATUS", "NOOP", "IDLE"} {
			delete(verbs, verb)
		}
		if len(verbs) > 0 {
			t.Errorf("it sends %v", verbs)
		}
	})
}

// TestFolderNames holds what is sent for names of folders (RFC 3501 §5.1.3).
func TestFolderNames(t *testing.T) {
	tests := []struct{ folder, want string }{
		{"INBOX", "INBOX"},
		{"inbox", "INBOX"},
		{"Lists/go", `"Lists/go"`},
		{"Entw%C3%BCrfe", `"Entw&APw-rfe"`},
		{"A%20%22b%22%5C", `"A \"b\"\\"`},
		{"you&me", `"you&-me"`},
		{"x)%20(y%20%7B5%7D", `"x) (y {5}"`},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			s := newServer("a")
			s.caps = bareCaps
			address, err := mailbox.ParseAddress("imap://alice@mail.example/" + tt.folder)
			if err != nil {
				t.Fatal(err)
			}
			r := newRunner(s, &memory{})
			r.Address = address
			w := start(t, s, r)
			synctest.Wait()
			var got []string
			for _, command := range s.commands() {
				if name, is := strings.CutPrefix(command, "EXAMINE "); is {
					got = append(got, name)
				}
			}
			if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
				t.Errorf("folder %s (-want +got):\n%s", tt.folder, diff)
			}
			w.cancel()
			<-w.ended
			s.drop()
		})
	}
}
