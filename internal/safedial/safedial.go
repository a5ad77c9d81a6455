// Package safedial makes the HTTP clients, and dials the other protocols, for
// addresses that others may choose. The address that is dialled is checked, after the name was resolved,
// so neither a redirect nor a name that changes its mind leads inside: only
// public addresses are reached, on the ports of the web, but for what the
// operator has allowed or named.
package safedial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Policy says what may be reached.
type Policy struct {
	AllowPrivate []netip.Prefix // besides public addresses
	AllowPorts   []uint16       // besides 80, 443, 8080 and 8443
	Named        []string       // URLs that the operator wrote: their host and port are reached wherever they lie
	Anything     bool           // the operator asks, at the terminal
}

// Timeouts of a connection. The caller bounds the whole.
const (
	dialTimeout   = 10 * time.Second
	tlsTimeout    = 10 * time.Second
	headerTimeout = 30 * time.Second
	idleTimeout   = 90 * time.Second
	maxRedirects  = 5
	maxHeadBytes  = 64 << 10
)

// RefusedError says that an address is not for us.
type RefusedError struct {
	Address string
	Cause   error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s is not reached: %v; network.allow_private and network.allow_ports can allow it", e.Address, e.Cause)
}

func (e *RefusedError) Unwrap() error { return e.Cause }

// NewDial makes what dials another protocol than HTTP under the policy; ports
// are the protocol's own.
func NewDial(p Policy, ports ...uint16) func(ctx context.Context, network, address string) (net.Conn, error) {
	return newDialer(p, ports).dial
}

// reachTime bounds Reach.
const reachTime = 2 * time.Second

// Reach connects to what the operator named, http://host:port, another scheme's
// URL or unix:/path, and says nothing there.
func Reach(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("read the address: %w", err)
	}
	network, place := "unix", u.Path
	if u.Scheme != "unix" {
		port := map[string]string{"https": "443"}[u.Scheme]
		network, place = "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port, "80"))
	}
	conn, err := (&net.Dialer{Timeout: reachTime}).DialContext(ctx, network, place)
	if err != nil {
		return err
	}
	return conn.Close()
}

// NewClient makes a client under the policy. It uses no proxy of the
// environment, follows at most 5 redirects, without a Referer, and keeps no cookies.
func NewClient(p Policy) *http.Client {
	dialer := newDialer(p, []uint16{80, 443, 8080, 8443})
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.dial,
			TLSHandshakeTimeout:    tlsTimeout,
			ResponseHeaderTimeout:  headerTimeout,
			IdleConnTimeout:        idleTimeout,
			MaxIdleConnsPerHost:    16,
			MaxResponseHeaderBytes: maxHeadBytes,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // the reader counts what it inflates
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("it redirects more than %d times", maxRedirects)
			}
			if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
				return fmt.Errorf("it redirects to %s:, which is not followed", req.URL.Scheme)
			}
			req.Header.Del("Referer") // the first address may hold a token
			return nil
		},
	}
}

type dialer struct {
	named   []string // host:port
	plain   net.Dialer
	guarded net.Dialer
}

func newDialer(p Policy, ports []uint16) *dialer {
	d := &dialer{
		plain:   net.Dialer{Timeout: dialTimeout},
		guarded: net.Dialer{Timeout: dialTimeout},
	}
	for _, raw := range p.Named {
		if u, err := url.Parse(raw); err == nil {
			d.named = append(d.named, hostPort(u))
		}
	}
	if !p.Anything {
		d.guarded.Control = guard(p, ports)
	}
	return d
}

// guard checks the resolved address just before it is dialled.
func guard(p Policy, ports []uint16) func(network, address string, c syscall.RawConn) error {
	var v4, v6 []netip.Prefix
	for _, prefix := range p.AllowPrivate {
		if prefix.Addr().Is4() {
			v4 = append(v4, prefix)
		} else {
			v6 = append(v6, prefix)
		}
	}
	return ssrf.New(
		ssrf.WithPorts(append(ports, p.AllowPorts...)...),
		ssrf.WithAllowedV4Prefixes(v4...),
		ssrf.WithAllowedV6Prefixes(v6...),
	).Safe
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if slices.Contains(d.named, strings.ToLower(address)) {
		return d.plain.DialContext(ctx, network, address)
	}
	conn, err := d.guarded.DialContext(ctx, network, address)
	for _, refusal := range []error{ssrf.ErrProhibitedIP, ssrf.ErrProhibitedPort, ssrf.ErrProhibitedNetwork, ssrf.ErrInvalidHostPort} {
		if errors.Is(err, refusal) {
			return nil, &RefusedError{Address: address, Cause: refusal}
		}
	}
	return conn, err
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "imap": "143", "imaps": "993"}[u.Scheme]
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port))
}
