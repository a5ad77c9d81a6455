package upstream

import (
	"container/list"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// What bounds the connections of an origin.
const (
	maxHeadBytes    = 64 << 10
	maxIdleConns    = 32
	idleConnTimeout = time.Minute
	// A connection whose request was given up goes on, for the next one, but not forever.
	handshakeTimeout = 30 * time.Second
	// A dead HTTP/2 connection would fail one request after the other, as none closes it.
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
)

// address is where an origin is.
type address struct {
	name   string // what is shown, and what makes two the same
	scheme string // of the request's URL
	host   string // of the request's URL
	socket string // path of a Unix socket
	h2c    bool   // HTTP/2 without TLS
}

// origin is one address. What is below state is guarded by Origins.mu.
type origin struct {
	address
	transport *http.Transport

	// state
	concurrency, queueLength int
	inFlight                 int
	waiting                  list.List // of *waiter, first come first served
	breaker                  breaker
	health                   health
	watched                  bool // Run asks its health path
	lastError                string
	since                    time.Time
}

func parseAddress(raw string) (address, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return address{}, fmt.Errorf("an upstream is not a URL: %w", withoutURL(err)) // it may hold a password
	}
	shown := u.Redacted()
	switch {
	case u.User != nil:
		return address{}, fmt.Errorf("upstream %s has user info; remove it, the request's own Authorization goes upstream", shown)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return address{}, fmt.Errorf("upstream %s has a query or fragment; remove it, path and query go upstream unchanged", shown)
	case u.Scheme == "unix":
		return parseSocket(u, shown)
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c":
		return address{}, fmt.Errorf("upstream %q is not known; write http://host:port, https://host, h2c://host:port or unix:/path", shown)
	case u.Hostname() == "":
		return address{}, fmt.Errorf("upstream %q names no host; write %s://host:port", shown, u.Scheme)
	case u.Path != "" && u.Path != "/":
		return address{}, fmt.Errorf("upstream %s has a path; remove it, path and query go upstream unchanged", shown)
	}
	host := canonicalHost(u)
	a := address{name: u.Scheme + "://" + host, scheme: u.Scheme, host: host}
	if u.Scheme == "h2c" {
		a.scheme, a.h2c = "http", true
	}
	return a, nil
}

func parseSocket(u *url.URL, shown string) (address, error) {
	if u.Host != "" || !strings.HasPrefix(u.Path, "/") || u.Path == "/" {
		return address{}, fmt.Errorf("upstream %q names no socket; write its absolute path, like unix:/run/app.sock", shown)
	}
	return address{name: "unix:" + u.Path, scheme: "http", host: "localhost", socket: u.Path}, nil
}

// canonicalHost leaves out the scheme's own port, as browsers do in Host.
func canonicalHost(u *url.URL) string {
	host := strings.ToLower(u.Host)
	standard := map[string]string{"http": "80", "h2c": "80", "https": "443"}[u.Scheme]
	return strings.TrimSuffix(strings.TrimSuffix(host, ":"+standard), ":")
}

// originLocked finds the origin or makes it, and has it follow the options.
func (o *Origins) originLocked(a address, opt Options) *origin {
	found := o.byURL[a.name]
	if found == nil {
		found = &origin{address: a, transport: o.newTransport(a), since: time.Now()}
		o.byURL[a.name] = found
	}
	found.concurrency, found.queueLength = opt.Concurrency, opt.QueueLength
	found.grantLocked()
	if opt.Health != "" {
		found.health.path, found.health.every = opt.Health, opt.HealthEvery
	}
	return found
}

// newTransport has no deadlines of a request, as pools differ in them: these are
// the attempt's.
func (o *Origins) newTransport(a address) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!a.h2c)
	protocols.SetHTTP2(a.scheme == "https") // by ALPN
	protocols.SetUnencryptedHTTP2(a.h2c)
	return &http.Transport{
		DialContext:            o.dialer(a),
		TLSClientConfig:        &tls.Config{RootCAs: o.rootCAs},
		TLSHandshakeTimeout:    handshakeTimeout,
		DisableCompression:     true, // what the client asked for, and got, is between the two
		MaxIdleConnsPerHost:    maxIdleConns,
		IdleConnTimeout:        idleConnTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxHeadBytes,
		Protocols:              protocols,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
}

// dialTime is the context's key of how long a request that needs a connection
// waits for it. The transport keeps the values of a request's context when it
// dials, but not its end: that is a second after the request has given up.
type dialTime struct{}

func (o *Origins) dialer(a address) func(ctx context.Context, network, address string) (net.Conn, error) {
	dial := o.dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if limit, ok := ctx.Value(dialTime{}).(time.Duration); ok {
			bounded, cancel := context.WithTimeout(ctx, limit+time.Second)
			defer cancel()
			ctx = bounded
		}
		if a.socket != "" {
			network, address = "unix", a.socket
		}
		conn, err := dial(ctx, network, address)
		if err != nil || a.h2c || a.scheme != "http" {
			return conn, err
		}
		return &framed{Conn: conn}, nil
	}
}

func (o *origin) stateLocked(now time.Time) State {
	return State{
		URL:       o.name,
		Up:        !o.health.down,
		Breaker:   o.breaker.state(now),
		InFlight:  o.inFlight,
		Waiting:   o.waiting.Len(),
		LastError: o.lastError,
		Since:     o.since,
	}
}
