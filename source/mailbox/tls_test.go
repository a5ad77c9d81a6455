package mailbox_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chappe/chappe/source/mailbox"
)

// newFarServer is on another machine, under the name that its certificate has.
func newFarServer(subjects ...string) *server {
	s := newServer(subjects...)
	s.addr = abroad
	s.first = "IMAP4rev1 STARTTLS LOGINDISABLED"
	s.tls = &tls.Config{Certificates: certificates}
	return s
}

// newFarRunner watches it by an address like imaps://example.com.
func newFarRunner(t *testing.T, s *server, m *memory, to string) *mailbox.Runner {
	t.Helper()
	r := newRunner(s, m)
	scheme, host, _ := strings.Cut(to, "://")
	address, err := mailbox.ParseAddress(scheme + "://alice@" + host + "/INBOX")
	if err != nil {
		t.Fatal(err)
	}
	r.Address = address
	return r
}

// secretless checks that the password is not among what was sent in the clear.
func secretless(t *testing.T, wire string) {
	t.Helper()
	for _, secret := range []string{"secret", "AGFsaWNlAHNlY3JldA==", "alice", "LOGIN", "AUTHENTICATE"} {
		if strings.Contains(wire, secret) {
			t.Errorf("%s was sent in the clear:\n%q", secret, wire)
		}
	}
}

func TestStartTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newFarServer("a"), &memory{}
		s.hook = once("STARTTLS", func(c *talk, tag, args string) bool {
			c.answer(tag, "STARTTLS", args)
			c.first = "IMAP4rev1 AUTH=PLAIN" // what it said before does not count
			return true
		})
		w := start(t, s, newFarRunner(t, s, m, "imap://example.com"))
		w.settle()
		s.deliver("b")
		w.settle()
		w.stop()
		m.want(t, "a mail", "received 2")
		if wire := s.sent(); !strings.HasPrefix(wire, "c1 CAPABILITY\r\nc2 STARTTLS\r\n\x16\x03") {
			t.Errorf("sent %.80q, want STARTTLS, then a handshake", wire)
		}
		secretless(t, s.sent())
		commands := s.commands()
		if commands[2] != "CAPABILITY" || !strings.HasPrefix(commands[3], "AUTHENTICATE PLAIN") {
			t.Errorf("commands = %q, want it to ask anew what is offered", commands[:4])
		}
	})
}

func TestImplicitTLS(t *testing.T) {
	for _, to := range []string{"imaps://example.com", "imaps://127.0.0.1"} {
		synctest.Test(t, func(t *testing.T) {
			s, m := newFarServer("a"), &memory{}
			s.first, s.implicit = "", true
			w := start(t, s, newFarRunner(t, s, m, to))
			w.settle()
			s.deliver("b")
			w.settle()
			w.stop()
			m.want(t, "a mail by "+to, "received 2")
			if wire := s.sent(); !strings.HasPrefix(wire, "\x16\x03") {
				t.Errorf("sent %.80q, want a handshake", wire)
			}
			secretless(t, s.sent())
		})
	}
}

// TestNoTLS holds when the password may go in the clear, and that it does not
// otherwise (RFC 8314, RFC 9051 §11.1).
func TestNoTLS(t *testing.T) {
	tests := []struct {
		name     string
		addr     net.Addr
		offers   string
		insecure bool
		want     string // "": it logs in
		wire     string // what begins all that was sent
	}{
		{"none is offered", abroad, "IMAP4rev1 AUTH=PLAIN", false, "offers no TLS", "c1 CAPABILITY\r\n"},
		{"none is offered, and that is fine", abroad, "IMAP4rev1 AUTH=PLAIN", true, "", "c1 CAPABILITY\r\nT1 CAPABILITY\r\n"},
		{"it is offered, and taken though none would do", abroad, "IMAP4rev1 AUTH=PLAIN STARTTLS", true, "", "c1 CAPABILITY\r\nc2 STARTTLS\r\n\x16\x03"},
		{"an address of the other family", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[2001:db8::1]:143")), "IMAP4rev1 AUTH=PLAIN", false, "offers no TLS", "c1 CAPABILITY\r\n"},
		{"a private network is another machine, too", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.1:143")), "IMAP4rev1 AUTH=PLAIN", false, "offers no TLS", "c1 CAPABILITY\r\n"},
		{"an address that is none", &net.UnixAddr{Name: "127.0.0.1"}, "IMAP4rev1 AUTH=PLAIN", false, "offers no TLS", "c1 CAPABILITY\r\n"},
		{"on this machine", home, "IMAP4rev1 AUTH=PLAIN", false, "", "c1 CAPABILITY\r\nT1 CAPABILITY\r\n"},
		{"on this machine, with an offer", home, "IMAP4rev1 AUTH=PLAIN STARTTLS", false, "", "c1 CAPABILITY\r\nT1 CAPABILITY\r\n"},
		{"on this machine, where it insists", home, "IMAP4rev1 STARTTLS LOGINDISABLED", false, "", "c1 CAPABILITY\r\nc2 STARTTLS\r\n\x16\x03"},
		{"on this machine, where nothing goes", home, "IMAP4rev1 LOGINDISABLED", false, "LOGINDISABLED", "c1 CAPABILITY\r\nT1 CAPABILITY\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, m := newFarServer("a"), &memory{}
				s.addr, s.first = tt.addr, tt.offers
				s.hook = once("STARTTLS", func(c *talk, tag, args string) bool {
					c.answer(tag, "STARTTLS", args)
					c.first = ""
					return true
				})
				r := newFarRunner(t, s, m, "imap://example.com")
				r.Insecure = tt.insecure
				w := start(t, s, r)
				if tt.want == "" {
					w.settle()
					w.stop()
				} else if err := w.fails(); !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Run = %v, want %q", err, tt.want)
				}
				if wire := s.sent(); !strings.HasPrefix(wire, tt.wire) {
					t.Errorf("sent %q, want it to begin with %q", wire, tt.wire)
				}
				if tt.want != "" {
					secretless(t, s.sent())
				}
			})
		})
	}
}

// TestBeforeTLS holds that a server, or who claims to be one, gets no password
// by what it says before TLS (NO STARTTLS, 2021).
func TestBeforeTLS(t *testing.T) {
	const offer = "* CAPABILITY IMAP4rev1 STARTTLS\r\nc1 OK done\r\n"
	tests := []struct {
		name     string
		greeting string
		says     map[string]string // by command
		want     string
	}{
		{"PREAUTH", "* PREAUTH welcome back\r\n", nil, "PREAUTH"},
		{"PREAUTH in small letters", "* preauth welcome back\r\n", nil, "preauth"},
		{"BYE", "* BYE too many\x1b[31m connections\r\n", nil, "does not want us: too many [31m connections"},
		{"no greeting", "HTTP/1.1 400 Bad Request\r\n", nil, "400 Bad Request"},
		{"a greeting without end", strings.Repeat("x", 5000), nil, "does not end"},
		{"a silent one", "", nil, "silent"},
		{"STARTTLS is refused", "* OK\r\n", map[string]string{"c1": offer, "c2": "c2 NO not today\r\n"}, `STARTTLS with "NO not today"`},
		{"STARTTLS is not understood", "* OK\r\n", map[string]string{"c1": offer, "c2": "c2 BAD what?\r\n"}, `STARTTLS with "BAD what?"`},
		{"CAPABILITY is refused", "* OK\r\n", map[string]string{"c1": "c1 BAD what?\r\n"}, `CAPABILITY with "BAD what?"`},
		{"no end of capabilities", "* OK\r\n", map[string]string{"c1": strings.Repeat("* CAPABILITY IMAP4rev1\r\n", 100)}, "end of its answer to CAPABILITY"},
		{"a line without end", "* OK\r\n", map[string]string{"c1": "* CAPABILITY " + strings.Repeat("X", 5000)}, "does not end"},
		{"STARTTLS only in the greeting", "* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n", map[string]string{"c1": "* CAPABILITY IMAP4rev1\r\nc1 OK done\r\n"}, "offers no TLS"},
		{"answers of a login that nobody asked for", "* OK\r\n", map[string]string{"c1": offer,
			"c2": "c2 OK go on\r\n* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\nT1 OK done\r\nT2 OK known\r\n"}, "does not look like a TLS handshake"},
		{"a greeting in the clear after STARTTLS", "* OK\r\n", map[string]string{"c1": offer, "c2": "c2 OK go on\r\n* PREAUTH hi\r\n"}, "does not look like a TLS handshake"},
		{"the end", "* OK\r\n", map[string]string{"c1": offer, "c2": "\x00end"}, "before TLS"},
		{"silence after STARTTLS", "* OK\r\n", map[string]string{"c1": offer, "c2": "c2 OK go on\r\n"}, "TLS with example.com: read pipe: i/o timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFarServer()
				r := newFarRunner(t, s, &memory{}, "imap://example.com")
				r.Insecure = false
				wire, say := dialScript(r, tt.greeting, tt.says)
				started := time.Now()
				w := start(t, s, r)
				err := w.fails()
				say.Close()
				if !strings.Contains(err.Error(), tt.want) || strings.ContainsAny(err.Error(), "\r\n\x1b") {
					t.Errorf("Run = %q, want %q", err, tt.want)
				}
				if took := time.Since(started); took > time.Minute {
					t.Errorf("it took %v", took)
				}
				synctest.Wait()
				secretless(t, wire.String())
			})
		})
	}
}

// dialScript has the Runner speak to one who answers by tag, as if on another
// machine, and returns what is sent to it.
func dialScript(r *mailbox.Runner, greeting string, says map[string]string) (wire *strings.Builder, there net.Conn) {
	here, there := net.Pipe()
	wire = &strings.Builder{}
	saying := make(chan string, 10)
	saying <- greeting
	go func() { // while it reads, as a buffer between the two would have it
		for text := range saying {
			if text == "\x00end" {
				there.Close()
			}
			_, _ = io.WriteString(there, text)
		}
	}()
	go func() {
		defer close(saying)
		p := make([]byte, 4096)
		for {
			n, err := there.Read(p)
			if err != nil {
				return
			}
			wire.Write(p[:n])
			tag, _, _ := strings.Cut(string(p[:n]), " ")
			if answer, is := says[tag]; is {
				saying <- answer
			}
		}
	}()
	r.Dial = func(context.Context, string, string) (net.Conn, error) { return addressed{here, abroad, nil}, nil }
	return wire, there
}

func TestCertificates(t *testing.T) {
	for _, scheme := range []string{"imap", "imaps"} {
		tests := []struct {
			host, want string
			config     *tls.Config
		}{
			{"mail.invalid", "the certificate of mail.invalid is not to be trusted", &tls.Config{Certificates: certificates}},
			{"192.0.2.1", "the certificate of 192.0.2.1 is not to be trusted", &tls.Config{Certificates: certificates}},
			{"example.com", "TLS with example.com", &tls.Config{Certificates: certificates, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}},
		}
		for _, tt := range tests {
			t.Run(fmt.Sprint(scheme, " ", tt.host), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newFarServer("a")
					s.tls, s.implicit = tt.config, scheme == "imaps"
					r := newFarRunner(t, s, &memory{}, scheme+"://"+tt.host)
					r.Insecure = true // it allows no TLS, not a wrong one
					err := start(t, s, r).fails()
					if !strings.Contains(err.Error(), tt.want) || isParked(err) {
						t.Errorf("Run = %v, want %q", err, tt.want)
					}
					secretless(t, s.sent())
				})
			})
		}
	}
}

// TestPreAuth holds that a server that thinks to know us already is refused
// within TLS, too.
func TestPreAuth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newFarServer("a"), &memory{}
		s.first, s.implicit, s.greeting = "", true, "* PREAUTH [CAPABILITY IMAP4rev1] welcome back"
		err := start(t, s, newFarRunner(t, s, m, "imaps://example.com")).fails()
		if !strings.Contains(err.Error(), "PREAUTH") || len(m.take()) > 0 {
			t.Errorf("Run = %v, want an error about PREAUTH", err)
		}
		if commands := s.commands(); len(commands) > 0 {
			t.Errorf("it sends %q", commands)
		}
	})
}

func TestByeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFarServer("a")
		s.first, s.implicit, s.greeting = "", true, "* BYE [UNAVAILABLE] come back later"
		err := start(t, s, newFarRunner(t, s, &memory{}, "imaps://example.com")).fails()
		if !strings.Contains(err.Error(), "come back later") || isParked(err) {
			t.Errorf("Run = %v, want what the server says", err)
		}
	})
}

func TestNotTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFarServer("a")
		r := newFarRunner(t, s, &memory{}, "imaps://example.com:143")
		_, there := dialScript(r, "* OK ready\r\n", nil)
		err := start(t, s, r).fails()
		there.Close()
		if !strings.Contains(err.Error(), "port 143 of example.com does not speak TLS; write imap://") {
			t.Errorf("Run = %v, want what to write", err)
		}
	})
}
