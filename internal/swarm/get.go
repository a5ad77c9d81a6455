package swarm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Gets is what Get is to do.
type Gets struct {
	URL      string      // of a server on this machine
	Header   http.Header // Host, too
	Count    int         // connections
	Duration time.Duration
	Wait     time.Duration // for a connection, and for each answer
	// Watch is told every 100 ms how many answers there are; nil: nobody asks.
	Watch func(answers uint64, left time.Duration)
}

// Answers is what became of the requests of Get.
type Answers struct {
	Elapsed  time.Duration // from when all were connected until the last answer
	Statuses map[int]uint64
	Hits     uint64 // by the member of Chappe in Cache-Status (RFC 9211)
	Bytes    uint64 // of the bodies
	Failed   uint64 // connections that were refused, requests that were not answered
	Reasons  map[string]int
	Latency  Histogram     // until the body's end; its count is that of the answers
	CPU      time.Duration // of this process, since it started
}

const (
	getShards   = 16                     // of the counts, so that one lock does not hold up all
	failedPause = 100 * time.Millisecond // before a connection is made anew that failed
)

// AddHeader takes a line like "Name: value".
func (g *Gets) AddHeader(line string) error {
	name, value, found := strings.Cut(line, ":")
	if !found || !isToken(name) || strings.ContainsAny(value, "\r\n\x00") {
		return errors.New("it is not like Name: value")
	}
	if g.Header == nil {
		g.Header = http.Header{}
	}
	g.Header.Add(name, strings.TrimSpace(value))
	return nil
}

// isToken is what the name of a field is (RFC 9110 §5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c)
	})
}

// request is what is sent each time.
func (g *Gets) request(ctx context.Context) (*http.Request, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL, nil)
	if err != nil {
		return nil, nil, err
	}
	r.Header = g.Header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	if r.Header["User-Agent"] == nil {
		r.Header.Set("User-Agent", "chappe bench")
	}
	var b bytes.Buffer
	err = r.Write(&b)
	return r, b.Bytes(), err
}

// Get asks on each of some kept connections, one request after the other and at
// least once, until the time is over or ctx ends; those under way by then are waited for unless
// ctx ended. A connection that ends is made anew.
func Get(ctx context.Context, g Gets) (Answers, error) {
	target, err := Local(g.URL)
	if err != nil {
		return Answers{}, fmt.Errorf("swarm: %w", err)
	}
	asked, sent, err := g.request(ctx)
	if err != nil {
		return Answers{}, fmt.Errorf("swarm: make the request: %w", err)
	}
	shards := make([]answerShard, min(g.Count, getShards))
	var connected, working sync.WaitGroup
	var end time.Time
	start := make(chan struct{}) // closed when all are connected and end is set
	for i := range g.Count {
		c := &getter{target: target.String(), wait: g.Wait, asked: asked, sent: sent, counts: &shards[i%len(shards)]}
		connected.Add(1)
		working.Go(func() { // until the end, or ctx's
			defer c.hangUp()
			c.connect(ctx)
			connected.Done()
			<-start
			for c.get(ctx); ctx.Err() == nil && time.Now().Before(end); {
				c.get(ctx)
			}
		})
	}
	connected.Wait()
	began := time.Now()
	end = began.Add(g.Duration)
	close(start)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for left := g.Duration; left > 0 && ctx.Err() == nil; left = time.Until(end) {
		select {
		case <-ticker.C:
		case <-time.After(left):
		case <-ctx.Done():
		}
		if g.Watch != nil {
			all := collect(shards)
			g.Watch(all.Latency.Count(), time.Until(end))
		}
	}
	working.Wait()
	all := collect(shards)
	all.Elapsed, all.CPU = time.Since(began), processCPU()
	return all, nil
}

type answerShard struct {
	mu sync.Mutex
	Answers
}

// collect adds up what the shards have.
func collect(shards []answerShard) Answers {
	all := Answers{Statuses: map[int]uint64{}, Reasons: map[string]int{}}
	for i := range shards {
		s := &shards[i]
		s.mu.Lock()
		all.Hits += s.Hits
		all.Bytes += s.Bytes
		all.Failed += s.Failed
		all.Latency.Merge(&s.Latency)
		for status, n := range s.Statuses {
			all.Statuses[status] += n
		}
		for reason, n := range s.Reasons {
			all.Reasons[reason] += n
		}
		s.mu.Unlock()
	}
	return all
}

func (s *answerShard) answer(status int, hit bool, bytes int64, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Statuses == nil {
		s.Statuses = map[int]uint64{}
	}
	s.Statuses[status]++
	s.Bytes += uint64(bytes)
	if hit {
		s.Hits++
	}
	s.Latency.Record(took)
}

func (s *answerShard) fail(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Reasons == nil {
		s.Reasons = map[string]int{}
	}
	if s.Reasons[reason] == 0 && len(s.Reasons) >= maxReasons {
		reason = "other"
	}
	s.Reasons[reason]++
	s.Failed++
}

// getter is one connection of Get.
type getter struct {
	target string
	wait   time.Duration
	asked  *http.Request
	sent   []byte
	counts *answerShard
	conn   net.Conn // nil: it is to be made
	reader *bufio.Reader
	forget func() bool // the context
}

// connect makes the connection, or counts why not.
func (c *getter) connect(ctx context.Context) {
	conn, err := (&net.Dialer{Timeout: c.wait}).DialContext(ctx, "tcp", c.target)
	if err != nil {
		c.fail(ctx, "connect", err)
		return
	}
	c.conn, c.reader = conn, bufio.NewReader(conn)
	c.forget = context.AfterFunc(ctx, func() { _ = conn.Close() }) // which ends a read
}

func (c *getter) hangUp() {
	if c.conn != nil {
		c.forget()
		_ = c.conn.Close() // nothing was left to be said
		c.conn = nil
	}
}

// get sends one request and reads its answer.
func (c *getter) get(ctx context.Context) {
	if c.conn == nil {
		if c.connect(ctx); c.conn == nil {
			return
		}
	}
	last, err := c.exchange(time.Now())
	if err != nil || last {
		c.hangUp()
	}
	if err != nil {
		c.fail(ctx, "request", err)
	}
}

// exchange counts the answer when its body has been read. Last says that the
// server will close the connection.
func (c *getter) exchange(began time.Time) (last bool, err error) {
	_ = c.conn.SetDeadline(began.Add(c.wait)) // fails on what is closed, as what follows does
	if _, err := c.conn.Write(c.sent); err != nil {
		return false, err
	}
	for {
		resp, err := http.ReadResponse(c.reader, c.asked)
		if err != nil {
			return false, err
		}
		size, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close() // it was read
		if err != nil {
			return false, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			c.counts.answer(resp.StatusCode, cacheHit(resp.Header["Cache-Status"]), size, time.Since(began))
			return resp.Close, nil
		}
	}
}

// fail counts a failure by what it says without addresses, which differ, and
// waits a little.
func (c *getter) fail(ctx context.Context, doing string, err error) {
	if ctx.Err() != nil {
		return
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	text := err.Error()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		text = fmt.Sprintf("no answer within %v", c.wait)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		text = "closed before the answer's end"
	}
	c.counts.fail(doing + ": " + text[:min(len(text), 100)])
	select {
	case <-time.After(failedPause):
	case <-ctx.Done():
	}
}

// cacheHit reports whether Cache-Status has a member chappe that was a hit
// (RFC 9211 §2.1).
func cacheHit(values []string) bool {
	rest, sep := strings.Join(values, ","), byte(',')
	for name, ours := "", false; rest != ""; {
		begins := sep == ','
		name, sep, rest = cutMember(rest)
		if begins {
			ours = name == "chappe"
		} else if ours && (name == "hit" || name == "hit=?1") {
			return true
		}
	}
	return false
}

// cutMember cuts at the first comma or semicolon that no string holds.
func cutMember(s string) (before string, sep byte, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case (c == ',' || c == ';') && !quoted:
			return strings.Trim(s[:i], " \t"), c, s[i+1:]
		}
	}
	return strings.Trim(s, " \t"), 0, ""
}
