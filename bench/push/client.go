package main

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/gobwas/ws"

	"github.com/chappe/chappe/internal/swarm"
)

// order is what the driver tells a client process, a line of JSON each.
type order struct {
	Do   string // dial, live, received, mark, stats, wire
	Time time.Duration

	Target        netip.AddrPort // of dial
	Count         int            // of dial, live
	Topic, Secret string         // with a secret each has a token of its own
	Transport     swarm.Transport
	Policy        swarm.Policy
	Greeted, TLS  bool
	InFlight      int
	Attempt       time.Duration
	Delay, Jitter time.Duration

	Messages uint64 // of received
}

// report is what it answers.
type report struct {
	Error string
	swarm.Counts
	ConnectTime              time.Duration
	P50, P90, P99, P999, Max time.Duration
	BackP50, BackMax         time.Duration
	EndsPerSecond            int
	Reasons                  map[string]int
	CPU                      time.Duration
	MostAttempts             int
	Behind                   int // clients whose last number is below the highest
	Wire                     uint64
}

// serveOrders is a client process: it does what stdin says until that ends.
func serveOrders(ctx context.Context) error {
	var c clients
	defer c.close()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		bounded, cancel := context.WithTimeout(ctx, o.Time+time.Minute)
		r, err := c.obey(ctx, bounded, o)
		cancel()
		if err != nil {
			r.Error = err.Error()
		}
		if err := answers.Encode(r); err != nil {
			return err
		}
	}
	return lines.Err()
}

// clients are a swarm, or connections over TLS, which a swarm cannot have.
type clients struct {
	*swarm.Swarm
	secure []net.Conn
}

func (c *clients) close() {
	if c.Swarm != nil {
		c.Close()
	}
	for _, conn := range c.secure {
		_ = conn.Close() // the end
	}
}

// obey does one thing; a swarm lives as long as whole.
func (c *clients) obey(whole, bounded context.Context, o order) (r report, err error) {
	if o.Time > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(bounded, o.Time)
		defer cancel()
	}
	if o.Do == "dial" && o.TLS {
		return c.dialTLS(bounded, o)
	}
	if o.Do == "dial" {
		c.Swarm, err = swarm.Dial(whole, o.options())
		return r, err
	}
	if c.Swarm == nil {
		return r, errors.New("nothing was dialled")
	}
	switch o.Do {
	case "live":
		err = c.Wait(bounded, func(n swarm.Counts) bool { return n.Live >= o.Count || n.Live+n.Failed >= o.Count && n.Connecting == 0 })
	case "received":
		err = c.Wait(bounded, func(n swarm.Counts) bool { return n.Received >= o.Messages })
	case "mark":
		c.Mark()
	case "wire":
		r.Wire, _, err = c.Wire()
		return r, err
	case "stats":
	default:
		return r, errors.New("unknown order " + o.Do)
	}
	return c.report(o.Do == "stats"), err
}

func (c *clients) report(all bool) report {
	if !all {
		return report{Counts: c.Counts()}
	}
	s := c.Stats()
	l := &s.Latency
	r := report{
		Counts: s.Counts, ConnectTime: s.ConnectTime, EndsPerSecond: s.EndsPerSecond, Reasons: s.Reasons, CPU: s.CPU,
		P50: l.Quantile(0.5), P90: l.Quantile(0.9), P99: l.Quantile(0.99), P999: l.Quantile(0.999), Max: l.Max(),
		BackP50: s.Back.Quantile(0.5), BackMax: s.Back.Max(),
	}
	each := c.Clients()
	var highest uint64
	for _, client := range each {
		highest = max(highest, client.Last)
		r.MostAttempts = max(r.MostAttempts, client.Attempts)
	}
	for _, client := range each {
		if client.Last < highest {
			r.Behind++
		}
	}
	return r
}

func (o *order) path() string {
	if o.Transport == swarm.SSE {
		return "/v1/stream?topic=" + url.QueryEscape(o.Topic)
	}
	return "/v1/ws?topic=" + url.QueryEscape(o.Topic)
}

func (o *order) options() swarm.Options {
	path := o.path()
	request := func(int) swarm.Request { return swarm.Request{Path: path} }
	if o.Secret != "" {
		request = func(i int) swarm.Request {
			return swarm.Request{Path: path, Header: "Authorization: Bearer " + sign(o.Secret, fmt.Sprintf("user-%d", i), o.Topic) + "\r\n"}
		}
	}
	return swarm.Options{
		Target: o.Target, Count: o.Count, Request: request, Transport: o.Transport, InFlight: o.InFlight,
		Sources: netip.MustParsePrefix("127.0.0.0/16"), Greeted: o.Greeted, Policy: o.Policy,
		Delay: o.Delay, Jitter: o.Jitter, AttemptTime: o.Attempt,
	}
}

// sign makes a subscriber token (RFC 7519, HS256) that is good for an hour.
func sign(secret, user, topic string) string {
	encode := base64.RawURLEncoding.EncodeToString
	now := time.Now()
	claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d,"topics":[%q]}`, user, now.Unix(), now.Add(time.Hour).Unix(), topic)
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

// dialTLS opens connections that nobody reads: they are for the server's
// memory and for what the handshakes cost it.
func (c *clients) dialTLS(ctx context.Context, o order) (r report, err error) {
	began := time.Now()
	dialer := ws.Dialer{TLSConfig: &tls.Config{InsecureSkipVerify: true}, Timeout: 30 * time.Second} // its certificate is of this minute
	next := make(chan struct{}, o.Count)
	for range o.Count {
		next <- struct{}{}
	}
	close(next)
	var mu sync.Mutex
	var dialling sync.WaitGroup
	for range 64 {
		dialling.Go(func() {
			for range next {
				conn, _, _, failed := dialer.Dial(ctx, "wss://"+o.Target.String()+o.path())
				mu.Lock()
				if failed == nil {
					c.secure = append(c.secure, conn)
				} else {
					err = failed
				}
				mu.Unlock()
			}
		})
	}
	dialling.Wait()
	r.Live, r.Connected, r.ConnectTime = len(c.secure), len(c.secure), time.Since(began)
	return r, err
}

// remote is a client process as the driver sees it.
type remote struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder
}

func startClient(ctx context.Context) (*remote, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-client")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &remote{cmd, in, json.NewDecoder(out)}, nil
}

// call has it do something. What it reports is of use in spite of an error.
func (c *remote) call(o order) (r report, err error) {
	if err := json.NewEncoder(c.in).Encode(o); err != nil {
		return r, fmt.Errorf("client: %w", err)
	}
	if err := c.answers.Decode(&r); err != nil {
		return r, fmt.Errorf("client: %w", err)
	}
	if r.Error != "" {
		err = fmt.Errorf("client: %s: %s", o.Do, r.Error)
	}
	return r, err
}

// close ends the process and its connections.
func (c *remote) close() {
	_ = c.in.Close() // which ends it
	late := time.AfterFunc(10*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	_ = c.cmd.Wait() // it has nothing to say any more
}
