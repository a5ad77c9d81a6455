package listen

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Pinned has a client take the certificate in file and no other. It is for
// programs of the server's own machine: its certificate is for the name that
// the outside uses, but they know it. Name, if given, is what is asked for.
func Pinned(file, name string) (*tls.Config, error) {
	leaf, err := leafOf(file)
	if err != nil {
		return nil, fmt.Errorf("know the server by its certificate: %w", err)
	}
	return &tls.Config{
		ServerName: name, InsecureSkipVerify: true, // in favour of the stricter:
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 || !bytes.Equal(state.PeerCertificates[0].Raw, leaf) {
				return fmt.Errorf("the server does not show the certificate in %s; it may be another's", file)
			}
			return nil
		},
	}, nil
}

// leafOf is the first certificate in a PEM file, which may hold a key too.
func leafOf(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return block.Bytes, nil
		}
	}
	return nil, fmt.Errorf("%s holds no certificate", file)
}

// certificateTick is how often the files are looked at, at the most.
const certificateTick = 5 * time.Second

// Certificate is that of two files, read again when they change.
type Certificate struct {
	cert, key string
	logger    *slog.Logger

	mu      sync.Mutex
	looked  time.Time
	version [2]fileVersion // of the files as last read
	current *tls.Certificate
}

type fileVersion struct {
	modified time.Time
	size     int64
}

// Get is tls.Config's GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < certificateTick {
		return c.current, nil
	}
	c.looked = time.Now()
	if version := c.versions(); version != c.version {
		c.version = version
		if err := c.read(); err != nil {
			c.logger.Error("the certificate that is there stays in use", "err", err)
		}
	}
	return c.current, nil
}

// LoadCertificate reads the files for the first time.
func LoadCertificate(cert, key string, logger *slog.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, logger: logger, looked: time.Now()}
	c.version = c.versions()
	return c, c.read()
}

func (c *Certificate) versions() (v [2]fileVersion) {
	for i, name := range []string{c.cert, c.key} {
		if info, err := os.Stat(name); err == nil { // reading says what is wrong
			v[i] = fileVersion{info.ModTime(), info.Size()}
		}
	}
	return v
}

func (c *Certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("tls: %w; give a certificate and its own key, in PEM", err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return fmt.Errorf("tls: %s: %w", c.cert, err)
		}
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) {
		c.logger.Warn("the certificate has expired", "cert", c.cert, "since", pair.Leaf.NotAfter)
	}
	c.current = &pair
	return nil
}
