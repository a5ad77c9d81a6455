package mailbox

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-sasl"

	"github.com/chappe/chappe/source"
)

// Times of a connection.
const (
	answerTime = 2 * time.Minute // for one command
	greetTime  = 30 * time.Second
)

// keepAlive finds a link that died while nobody spoke. Dovecot says something
// each two minutes: then these probes are never sent.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 150 * time.Second, Interval: 20 * time.Second, Count: 3}

// connect dials, makes the connection private, and logs in.
func (r *Runner) connect(ctx context.Context) (*session, error) {
	password, err := r.Password()
	if err != nil {
		return nil, &source.ParkError{Cause: err}
	}
	conn, err := r.Dial(ctx, "tcp", r.Address.hostPort())
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(keepAlive) // it works without, only later
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	s, err := r.greet(conn)
	if err == nil {
		s.stop = stop
		if err = s.logIn(r.Address.User, password); err == nil {
			return s, nil
		}
		err = s.explain(err)
		s.close()
	}
	stop()
	_ = conn.Close()
	return nil, err
}

// greet makes the connection private, as the address and the server have it.
func (r *Runner) greet(conn net.Conn) (*session, error) {
	if err := conn.SetDeadline(time.Now().Add(greetTime)); err != nil {
		return nil, err
	}
	g := &guard{Conn: conn}
	private := r.Address.TLS
	if !r.Address.TLS {
		offered, err := readGreeting(conn)
		if err != nil {
			return nil, err
		}
		if private, err = r.starttls(conn, offered); err != nil {
			return nil, err
		}
		g.greeting = []byte("* OK the greeting was read\r\n") // what came in the clear counts no more
	}
	if private {
		secure := tls.Client(conn, &tls.Config{ServerName: r.Address.Host, MinVersion: tls.VersionTLS12, NextProtos: []string{"imap"}})
		if err := secure.Handshake(); err != nil {
			return nil, explainTLS(r.Address, err)
		}
		g.Conn = secure
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return newSession(g), nil
}

// starttls asks for TLS and reports whether the server is ready for it. On
// another machine there is no login without (RFC 8314, RFC 9051 §11.1).
func (r *Runner) starttls(conn net.Conn, offered map[string]bool) (ready bool, err error) {
	switch here := onThisMachine(conn); {
	case here && !offered["LOGINDISABLED"]:
		return false, nil // the bytes go nowhere
	case offered["STARTTLS"]:
		_, err := ask(conn, "c2", "STARTTLS")
		return err == nil, err
	case here || r.Insecure:
		return false, nil
	}
	return false, errors.New("the server offers no TLS, and the password is not sent in the clear; write imaps://, or insecure: true if nobody can listen on the way")
}

// readGreeting reads, before TLS, the greeting and what the server can do. It
// reads byte by byte: nothing that comes before the handshake can be taken for
// something that came after it.
func readGreeting(conn net.Conn) (offered map[string]bool, err error) {
	line, err := readLine(conn)
	if err != nil {
		return nil, err
	}
	switch word, rest, _ := strings.Cut(strings.TrimPrefix(line, "* "), " "); strings.ToUpper(word) {
	case "OK":
	case "BYE":
		return nil, fmt.Errorf("the server does not want us: %s", clean(rest, keep))
	default: // PREAUTH would leave us in the clear (RFC 9051 §7.1.4)
		return nil, fmt.Errorf("the server greets with %q, which is refused before TLS", clean(line, keep))
	}
	lines, err := ask(conn, "c1", "CAPABILITY")
	offered = map[string]bool{}
	for _, line := range lines {
		if words := strings.Fields(strings.ToUpper(line)); len(words) > 2 && words[1] == "CAPABILITY" {
			for _, word := range words[2:] {
				offered[word] = true
			}
		}
	}
	return offered, err
}

// ask sends a command and returns what is said before its OK.
func ask(conn net.Conn, tag, command string) (untagged []string, err error) {
	if _, err := fmt.Fprintf(conn, "%s %s\r\n", tag, command); err != nil {
		return nil, err
	}
	for range 32 {
		line, err := readLine(conn)
		if err != nil {
			return nil, err
		}
		rest, tagged := strings.CutPrefix(line, tag+" ")
		switch {
		case !tagged:
			untagged = append(untagged, line)
		case strings.HasPrefix(strings.ToUpper(rest), "OK"):
			return untagged, nil
		default:
			return nil, fmt.Errorf("the server answered %s with %q", command, clean(rest, keep))
		}
	}
	return nil, fmt.Errorf("the server does not come to the end of its answer to %s", command)
}

// readLine reads a line of at most 4 KiB, and not one byte more.
func readLine(conn net.Conn) (string, error) {
	line := make([]byte, 0, 128)
	for b := make([]byte, 1); len(line) < 4096; {
		if _, err := conn.Read(b); err != nil {
			return "", fmt.Errorf("the server ended the connection, or was silent, before TLS: %w", err)
		}
		if b[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		line = append(line, b[0])
	}
	return "", errors.New("the server's greeting does not end; is this an IMAP server?")
}

func explainTLS(a Address, err error) error {
	if invalid, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("the certificate of %s is not to be trusted: %w; name the host as the certificate does, and have its authority among the system's", a.Host, invalid.Err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok && a.TLS {
		return fmt.Errorf("port %s of %s does not speak TLS; write imap:// for STARTTLS", a.Port, a.Host)
	}
	return fmt.Errorf("TLS with %s: %w", a.Host, err)
}

// logIn proves who we are. A refusal that a new try will not mend parks the watch.
func (s *session) logIn(user, password string) error {
	s.guard.allow(answerTime)
	if err := s.client.WaitGreeting(); err != nil {
		return err
	}
	caps := s.client.Caps()
	var err error
	switch {
	case s.client.State() != imap.ConnStateNotAuthenticated:
		return errors.New("the server greets us as somebody known (PREAUTH), whoever that is")
	case caps.Has(imap.AuthCap(sasl.Plain)):
		err = s.client.Authenticate(sasl.NewPlainClient("", user, password)) // any UTF-8 (RFC 4616)
	case caps.Has(imap.CapLoginDisabled):
		return &source.ParkError{Cause: errors.New("the server takes no password (LOGINDISABLED); is this the right port?")}
	default:
		err = s.client.Login(user, password).Wait()
	}
	refused, ok := errors.AsType[*imap.Error](err)
	if !ok || refused.Type != imap.StatusResponseTypeNo {
		return err
	}
	err = fmt.Errorf("the server refused the login: %s", clean(refused.Text, keep))
	switch refused.Code { // RFC 5530 §3
	case imap.ResponseCodeUnavailable, imap.ResponseCodeInUse, imap.ResponseCodeLimit, imap.ResponseCodeServerBug:
		return err
	}
	return &source.ParkError{Cause: fmt.Errorf("%w; correct the user or the password file, then restart", err)}
}
