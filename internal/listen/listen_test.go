package listen_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chappe/chappe/internal/listen"
)

// write makes a certificate and its key in two files.
func write(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	public, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: public}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The files are read again when they changed, a few seconds later; what does
// not fit together is told of and not used.
func TestCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	synctest.Test(t, func(t *testing.T) {
		write(t, cert, key, 1)
		var log bytes.Buffer
		c, err := listen.LoadCertificate(cert, key, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		serial := func() int64 {
			t.Helper()
			got, err := c.Get(&tls.ClientHelloInfo{})
			if err != nil {
				t.Fatal(err)
			}
			return got.Leaf.SerialNumber.Int64()
		}
		stamp := time.Unix(1, 0) // the files' times are real, the bubble's are not
		change := func(serial int64) {
			write(t, cert, key, serial)
			stamp = stamp.Add(time.Second)
			if err := os.Chtimes(cert, stamp, stamp); err != nil {
				t.Fatal(err)
			}
		}
		change(2)
		if got := serial(); got != 1 {
			t.Errorf("serial %d at once, want 1: the files are not looked at each time", got)
		}
		time.Sleep(6 * time.Second)
		if got := serial(); got != 2 {
			t.Errorf("serial %d after a change, want 2", got)
		}
		change(3)
		write(t, filepath.Join(dir, "other"), key, 4) // the key is another's
		time.Sleep(6 * time.Second)
		if got := serial(); got != 2 || !strings.Contains(log.String(), "private key does not match") {
			t.Errorf("serial %d with files that do not fit, want 2 still; the log says %s", got, &log)
		}
	})
}

// A client that is pinned takes the one certificate, whatever its name.
func TestPinned(t *testing.T) {
	dir := t.TempDir()
	names := []string{filepath.Join(dir, "cert"), filepath.Join(dir, "key"), filepath.Join(dir, "cert2"), filepath.Join(dir, "key2")}
	write(t, names[0], names[1], 1)
	write(t, names[2], names[3], 1)
	pair, err := tls.LoadX509KeyPair(names[0], names[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{names[0], names[2]} {
		config, err := listen.Pinned(name, "")
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		go func() {
			_ = tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake()
			theirs.Close()
		}()
		err = tls.Client(ours, config).Handshake()
		if (err == nil) != (name == names[0]) {
			t.Errorf("pinned to %s: %v", filepath.Base(name), err)
		}
		ours.Close()
	}
	if _, err := listen.Pinned(names[1], ""); err == nil {
		t.Error("a file without a certificate is taken for one")
	}
}

// LISTEN_FDS is for the process that LISTEN_PID names only.
func TestActivated(t *testing.T) {
	for _, tt := range []struct {
		pid, fds string
		fails    bool
	}{{"", "", false}, {"1", "1", false}, {"self", "2", true}, {"self", "", true}} {
		if tt.pid == "self" {
			tt.pid = big.NewInt(int64(os.Getpid())).String()
		}
		l, err := listen.Activated(func(name string) string { return map[string]string{"LISTEN_PID": tt.pid, "LISTEN_FDS": tt.fds}[name] })
		if l != nil || (err != nil) != tt.fails {
			t.Errorf("LISTEN_PID=%s LISTEN_FDS=%s: %v, %v", tt.pid, tt.fds, l, err)
		}
	}
}
