//go:build integration

// Package dovecot runs a real Dovecot, with IMAP and LMTP on loopback, for tests.
package dovecot

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"
)

// Password is that of every user.
const Password = "correct horse"

// Server is a Dovecot in a folder of its own, where it can be killed and
// started again.
type Server struct {
	IMAP string // host:port; STARTTLS is offered with the certificate
	TLS  string // host:port of implicit TLS
	Cert string // PEM file of the certificate's authority: itself

	t      testing.TB
	folder string
	lmtp   string
	cmd    *exec.Cmd
}

var config = template.Must(template.New("").Parse(`
protocols = imap lmtp
listen = 127.0.0.1
base_dir = {{.Folder}}/run
state_dir = {{.Folder}}/state
log_path = {{.Folder}}/log
ssl = yes
ssl_cert = <{{.Folder}}/cert.pem
ssl_key = <{{.Folder}}/key.pem
ssl_dh =
disable_plaintext_auth = no
first_valid_uid = 1
default_internal_user = {{.Internal}}
default_internal_group = {{.InternalGroup}}
default_login_user = {{.Login}}
mail_location = maildir:~/Maildir
auth_failure_delay = 1 secs
mail_max_userip_connections = 1000
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%n {{.Folder}}/users
}
userdb {
  driver = static
  args = uid={{.UID}} gid={{.GID}} home={{.Folder}}/mail/%n
}
service imap-login {
  chroot =
  service_count = 0
  inet_listener imap {
    port = {{.IMAP}}
  }
  inet_listener imaps {
    port = {{.TLS}}
    ssl = yes
  }
}
service anvil {
  chroot =
}
service lmtp {
  inet_listener lmtp {
    port = {{.LMTP}}
  }
}
`))

// Start runs a Dovecot for those users until the test ends. The settings are
// lines for its configuration.
func Start(t testing.TB, settings string, users ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("dovecot"); err != nil {
		t.Fatal("dovecot is missing: install the Debian packages dovecot-imapd and dovecot-lmtpd")
	}
	// Not in t.TempDir: Dovecot's own users must reach it.
	folder, err := os.MkdirTemp("", "dovecot")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, folder: folder, Cert: filepath.Join(folder, "cert.pem")}
	t.Cleanup(func() { s.Kill(); _ = os.RemoveAll(folder) })
	imap, implicit, lmtp := freePort(t), freePort(t), freePort(t)
	s.IMAP, s.TLS, s.lmtp = loopback(imap), loopback(implicit), loopback(lmtp)

	values := map[string]any{"Folder": folder, "IMAP": imap, "TLS": implicit, "LMTP": lmtp,
		"Internal": "dovecot", "InternalGroup": "dovecot", "Login": "dovenull", "UID": 65534, "GID": 65534}
	if me := os.Getuid(); me != 0 {
		u, err := user.Current()
		check(t, err)
		g, err := user.LookupGroupId(u.Gid)
		check(t, err)
		values["Internal"], values["InternalGroup"], values["Login"], values["UID"], values["GID"] = u.Username, g.Name, u.Username, me, os.Getgid()
	}
	check(t, os.Chmod(folder, 0o755))
	check(t, os.Mkdir(filepath.Join(folder, "mail"), 0o777))
	check(t, os.Chmod(filepath.Join(folder, "mail"), 0o777))
	var text, passwords bytes.Buffer
	check(t, config.Execute(&text, values))
	text.WriteString(settings)
	for _, name := range users {
		fmt.Fprintf(&passwords, "%s:{PLAIN}%s\n", name, Password)
	}
	check(t, os.WriteFile(s.path("dovecot.conf"), text.Bytes(), 0o644))
	check(t, os.WriteFile(s.path("users"), passwords.Bytes(), 0o644))
	certificate(t, s.Cert, s.path("key.pem"))
	s.Start()
	return s
}

func (s *Server) path(name string) string { return filepath.Join(s.folder, name) }

// Start runs it and returns when it answers.
func (s *Server) Start() {
	s.t.Helper()
	out, err := os.OpenFile(s.path("out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	check(s.t, err)
	defer out.Close()
	cmd := exec.Command("dovecot", "-F", "-c", s.path("dovecot.conf"))
	cmd.Stdout, cmd.Stderr = out, out                     // a file: its daemons would keep a pipe open
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that all of it can be killed
	check(s.t, cmd.Start())
	s.cmd = cmd
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		if greets(s.IMAP) && greets(s.lmtp) {
			return
		}
	}
	log, _ := os.ReadFile(s.path("log"))
	s.t.Fatalf("Dovecot did not start:\n%s", log)
}

func greets(address string) bool {
	conn, err := textproto.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	_, err = conn.ReadLine()
	return err == nil
}

// Kill ends it and all its processes as a power failure would.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Deliver brings a mail to the user's INBOX by LMTP (RFC 2033). A mail without
// header is given one.
func (s *Server) Deliver(user, subject string) {
	s.t.Helper()
	s.DeliverRaw(user, "From: Bob <bob@example.org>\r\nTo: "+user+"@example.org\r\nSubject: "+subject+
		"\r\nDate: Sat, 21 Nov 2026 10:00:00 +0100\r\nMessage-ID: <"+strconv.FormatInt(time.Now().UnixNano(), 36)+"@example.org>\r\n\r\nbody\r\n")
}

// DeliverRaw brings a mail as it is; lines end in CRLF.
func (s *Server) DeliverRaw(user, text string) {
	s.t.Helper()
	conn, err := textproto.Dial("tcp", s.lmtp)
	check(s.t, err)
	defer conn.Close()
	expect := func(code int) {
		s.t.Helper()
		if _, _, err := conn.ReadResponse(code); err != nil {
			s.t.Fatalf("LMTP: %v", err)
		}
	}
	say := func(code int, format string, args ...any) {
		s.t.Helper()
		check(s.t, conn.PrintfLine(format, args...))
		expect(code)
	}
	expect(220)
	say(250, "LHLO test")
	say(250, "MAIL FROM:<bob@example.org>")
	say(250, "RCPT TO:<%s>", user)
	say(354, "DATA")
	w := conn.DotWriter()
	_, err = w.Write([]byte(text))
	check(s.t, err)
	check(s.t, w.Close())
	expect(250)
}

// Do runs commands in a connection of the user's own, as another mail program
// would; {INBOX} is selected. It returns what the server said.
func (s *Server) Do(user string, commands ...string) (said string) {
	s.t.Helper()
	conn, err := textproto.Dial("tcp", s.IMAP)
	check(s.t, err)
	defer conn.Close()
	_, err = conn.ReadLine()
	check(s.t, err)
	for i, command := range append([]string{fmt.Sprintf("LOGIN %s %q", user, Password), "SELECT INBOX"}, commands...) {
		tag := fmt.Sprintf("x%d ", i)
		check(s.t, conn.PrintfLine("%s%s", tag, command))
		for {
			line, err := conn.ReadLine()
			check(s.t, err)
			said += line + "\n"
			if rest, ok := strings.CutPrefix(line, tag); ok {
				if !strings.HasPrefix(rest, "OK") {
					s.t.Fatalf("%s: %s", command, line)
				}
				break
			}
		}
	}
	return said
}

// Renumber makes Dovecot give the user's INBOX a new UIDVALIDITY.
func (s *Server) Renumber(user string) {
	s.t.Helper()
	lists, err := filepath.Glob(filepath.Join(s.folder, "mail", user, "Maildir", "dovecot*"))
	check(s.t, err)
	for _, name := range lists {
		check(s.t, os.RemoveAll(name))
	}
}

// Log is what it logged.
func (s *Server) Log() string {
	text, _ := os.ReadFile(s.path("log")) // not there yet: nothing was logged
	return string(text)
}

func certificate(t testing.TB, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	check(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	check(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
