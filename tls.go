package main

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"path/filepath"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/chappe/chappe/internal/listen"
)

type tlsSettings struct {
	// Cert is the certificate with those that lead to its root, in PEM; it is read again when it changes.
	Cert string `yaml:"cert" path:"file"`
	// Key is the certificate's private key, in PEM.
	Key string `yaml:"key" path:"file"`
	// ACME has certificates fetched, in place of cert and key.
	ACME acmeSettings `yaml:"acme"`
}

type acmeSettings struct {
	// Domains are the names to have certificates for; they must lead to this server's port 443.
	Domains []string `yaml:"domains"`
	// Email is where the issuer writes to when something is wrong.
	Email string `yaml:"email"`
	// Directory is the issuer's address; Let's Encrypt if not given.
	Directory string `yaml:"directory"`
}

// Validate checks that there is one way to a certificate, or none.
func (t tlsSettings) Validate() error {
	files := t.Cert != "" || t.Key != ""
	switch acme := t.ACME.Domains != nil || t.ACME.Email != "" || t.ACME.Directory != ""; {
	case files && acme:
		return errors.New("both files and acme are given; keep cert and key, or acme")
	case files && (t.Cert == "" || t.Key == ""):
		return errors.New("cert and key belong together; give both")
	case acme && len(t.ACME.Domains) == 0:
		return errors.New("acme.domains is missing; name what the outside calls this server, like [push.example]")
	}
	return nil
}

func (t tlsSettings) on() bool { return t.Cert != "" || len(t.ACME.Domains) > 0 }

// tlsConfig is what the server speaks TLS by, nil without.
func (s *settings) tlsConfig(logger *slog.Logger) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}} // RFC 7301
	switch t := s.TLS; {
	case t.Cert != "":
		c, err := listen.LoadCertificate(t.Cert, t.Key, logger)
		if err != nil {
			return nil, configError{err}
		}
		config.GetCertificate = c.Get
	case len(t.ACME.Domains) > 0:
		m := &autocert.Manager{
			Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(t.ACME.Domains...),
			Cache: autocert.DirCache(acmeFolder(s.Data)), Email: t.ACME.Email,
			Client: &acme.Client{DirectoryURL: t.ACME.Directory, HTTPClient: s.client(t.ACME.Directory)},
		}
		if t.ACME.Directory == "" {
			m.Client.DirectoryURL = autocert.DefaultACMEDirectory
		}
		config.GetCertificate = m.GetCertificate
		config.NextProtos = append(config.NextProtos, acme.ALPNProto)
	default:
		return nil, nil
	}
	return config, nil
}

func acmeFolder(data string) string { return filepath.Join(data, "acme") }

// pinned is for commands of this machine, which know the server by its
// certificate.
func (t tlsSettings) pinned(data string) (*tls.Config, error) {
	if t.Cert != "" {
		return listen.Pinned(t.Cert, "")
	}
	return listen.Pinned(filepath.Join(acmeFolder(data), t.ACME.Domains[0]), t.ACME.Domains[0])
}
