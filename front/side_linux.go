//go:build linux && !nethttp

package front

import (
	"bytes"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/chappe/chappe/internal/head"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/slab"
)

// side is the server's part of one loop: the connections between accept and
// whoever they are given to, and between two requests. It runs on the loop.
type side struct {
	server *Server
	loop   *loop.Loop
	owner  loop.OwnerID
	states slab.Slab[state]
	arrive arrivals

	fresh     loop.Conn // the last that was opened
	freshPeer netip.AddrPort
	request   head.Request
	exchange  Exchange
	out       []byte // scratch of answers
	date      []byte // the Date line, of this second
	dated     int64
	host      []byte // the last that came
	hostKnown bool
	closing   bool // each answer is its connection's last
}

// state is what a connection of the side has only when it is not simply idle.
type state struct {
	buf    []byte     // of a request that is not whole
	tried  int        // bytes of it that were parsed in vain; 0: it has not begun
	want   int        // bytes that it takes; 0: that is not known yet
	stage  stage      // what comes next
	peer   netip.Addr // by the PROXY header
	choked bool       // answers wait to be taken, and buf for that
}

// maxQueued is how much may wait to be taken before a connection's next
// request is looked at.
const maxQueued = 256 << 10

// stage is what a new connection has to show before its first request.
type stage uint8

const (
	stageRequest stage = iota
	stageTLS
	stageProxy
)

func (sd *side) state(data uint32) *state {
	if data == 0 {
		return nil
	}
	return sd.states.At(data)
}

// ensure gives the connection a state.
func (sd *side) ensure(c loop.Conn, data uint32) (uint32, *state) {
	if data == 0 {
		data = sd.states.Add()
		sd.loop.Give(c, sd.owner, data)
	}
	return data, sd.states.At(data)
}

// settle drops a state that holds nothing more.
func (sd *side) settle(c loop.Conn, data uint32) uint32 {
	if data == 0 {
		return 0
	}
	if st := sd.states.At(data); len(st.buf) > 0 || st.stage != stageRequest || st.peer.IsValid() {
		return data
	}
	sd.states.Remove(data)
	sd.loop.Give(c, sd.owner, 0)
	return 0
}

// Input implements loop.Owner.
func (sd *side) Input(c loop.Conn, data uint32, b []byte) {
	if st := sd.state(data); st != nil && len(st.buf) > 0 {
		st.buf = append(st.buf, b...)
		if st.choked || !st.worthTrying() {
			return
		}
		b, st.buf = st.buf, nil
	}
	sd.consume(c, data, b)
}

// worthTrying holds down what a head that comes byte by byte costs: it is
// parsed again when it may be whole, or has doubled.
func (st *state) worthTrying() bool {
	if st.want > 0 {
		return len(st.buf) >= st.want
	}
	from := max(0, st.tried-3)
	return st.stage != stageRequest || bytes.Contains(st.buf[from:], []byte("\r\n\r\n")) || len(st.buf) >= 2*st.tried
}

// consume handles what came, as many requests as there are.
func (sd *side) consume(c loop.Conn, data uint32, b []byte) {
	o, wait := &sd.server.options, time.Duration(0)
	for len(b) > 0 {
		if sd.loop.Pending(c) > maxQueued {
			sd.choke(c, data, b)
			return
		}
		wait = o.IdleTime
		if st := sd.state(data); st != nil && st.stage != stageRequest {
			wait = o.HeadTime // what it announces has yet to come
		}
		n, on := sd.next(c, data, b)
		if !on {
			return
		}
		b = b[n:]
		if st := sd.state(data); st != nil {
			st.tried, st.want = 0, 0
		}
	}
	sd.settle(c, data)
	sd.loop.Wake(c, wait)
}

// choke leaves requests of a client that does not take its answers.
func (sd *side) choke(c loop.Conn, data uint32, b []byte) {
	_, st := sd.ensure(c, data)
	st.buf, st.choked = append(st.buf[:0], b...), true
	sd.loop.Pause(c)
	sd.loop.Wake(c, 0) // the loop looks after its taking them
}

// Drained implements loop.Owner.
func (sd *side) Drained(c loop.Conn, data uint32) {
	st := sd.state(data)
	if st == nil || !st.choked {
		return
	}
	b := st.buf
	st.buf, st.choked = nil, false
	sd.loop.Resume(c)
	sd.consume(c, data, b)
}

// next handles what stands at the beginning of b. It returns how much that
// was, and whether the connection is still the side's to go on with.
func (sd *side) next(c loop.Conn, data uint32, b []byte) (n int, on bool) {
	if st := sd.state(data); st != nil && st.stage != stageRequest {
		return sd.preamble(c, data, st, b)
	}
	r := &sd.request
	switch err := r.Parse(b); {
	case errors.Is(err, head.ErrIncomplete):
		sd.keep(c, data, b, 0, sd.server.options.HeadTime)
		return 0, false
	case err != nil:
		sd.refuse(c, err)
		sd.free(data)
		return 0, false
	}
	return sd.route(c, data, r, b)
}

// keep holds the beginning of a request until more comes, want bytes in all if
// that is known. The limit runs from its first byte, and anew from when it is
// known.
func (sd *side) keep(c loop.Conn, data uint32, b []byte, want int, limit time.Duration) {
	_, st := sd.ensure(c, data)
	if st.tried == 0 || want > 0 && st.want == 0 {
		sd.loop.Wake(c, limit)
	}
	st.buf, st.tried, st.want = append(st.buf[:0], b...), len(b), want
}

func (sd *side) free(data uint32) {
	if data != 0 {
		sd.states.Remove(data)
	}
}

// route decides who handles a request.
func (sd *side) route(c loop.Conn, data uint32, r *head.Request, b []byte) (n int, on bool) {
	path := sd.path(r)
	switch {
	case string(r.Method) == http.MethodGet && r.Length == 0:
		if w := sd.server.waiting[string(path)]; w != nil && sd.knownHost(r.Host) {
			return sd.handle(c, data, w, nil, b, r.Size)
		}
		if sd.server.prepared != nil {
			x := &sd.exchange
			*x = Exchange{loop: sd.loop, side: sd, conn: c, data: data, head: r, keepAlive: sd.keepsAlive(), knownHost: sd.knownHost(r.Host), rest: b[r.Size:]}
			if sd.answerPrepared(x); x.done == ended {
				sd.free(data)
			}
			if x.done != untouched {
				return r.Size, x.done == answered
			}
		}
	case string(r.Method) == http.MethodPost && !r.Expect && sd.knownHost(r.Host):
		if w := sd.server.waiting["POST "+string(path)]; w != nil && r.Length >= 0 && r.Length <= maxBody {
			total := r.Size + int(r.Length)
			if len(b) < total {
				sd.keep(c, data, b, total, progressTime)
				return 0, false
			}
			return sd.handle(c, data, w, b[r.Size:total], b, total)
		}
	}
	sd.hand(c, data, r, b)
	return 0, false
}

// path is that of a request without the prefix.
func (sd *side) path(r *head.Request) []byte {
	prefix := sd.server.options.Prefix
	if n := len(prefix); n > 0 && len(r.Path) > n && string(r.Path[:n]) == prefix && r.Path[n] == '/' {
		return r.Path[n:]
	}
	return r.Path
}

func (sd *side) knownHost(host []byte) bool {
	if len(sd.host) == 0 || !bytes.Equal(host, sd.host) {
		known := sd.server.options.KnownHost
		sd.hostKnown = known == nil || known(string(host))
		sd.host = append(sd.host[:0], host...)
	}
	return sd.hostKnown
}

func (sd *side) encrypted(c loop.Conn) bool { return sd.loop.TLS(c) != nil }

// handle has an exchange handled on the loop.
func (sd *side) handle(c loop.Conn, data uint32, w Waiting, body, b []byte, size int) (n int, on bool) {
	x := &sd.exchange
	*x = Exchange{loop: sd.loop, side: sd, conn: c, data: data, head: &sd.request, keepAlive: sd.keepsAlive(), rest: b[size:], body: body, peer: sd.peer(c, data)}
	sd.server.metrics.requests[byLoop].Inc()
	sd.loop.Cork(c)
	w(x)
	rest := x.rest
	switch x.done {
	case answered:
		return size, true
	case given:
		sd.free(data)
		sd.loop.Inject(c, rest)
	case ended:
		sd.free(data)
	}
	return 0, false
}

// keepsAlive reports whether the connection goes on after the request. That of
// an HTTP/1.0 client, which would have to be told, does not.
func (sd *side) keepsAlive() bool {
	return sd.request.KeepAlive && sd.request.Minor == 1 && !sd.closing
}

// peer is the address of the other side.
func (sd *side) peer(c loop.Conn, data uint32) netip.Addr {
	if st := sd.state(data); st != nil && st.peer.IsValid() {
		return st.peer
	}
	if c == sd.fresh {
		return sd.freshPeer.Addr()
	}
	return sd.loop.Peer(c).Addr()
}

// Timeout implements loop.Owner.
func (sd *side) Timeout(c loop.Conn, data uint32) {
	if st := sd.state(data); st != nil && len(st.buf) > 0 {
		sd.server.metrics.refused.WithLabelValues("head-timeout").Inc()
	}
	sd.loop.Close(c)
	sd.free(data)
}

// Closed implements loop.Owner.
func (sd *side) Closed(_ loop.Conn, data uint32, _ error) { sd.free(data) }

// hold keeps an exchange past its call: the connection is not read until then.
func (sd *side) hold(held, x *Exchange) {
	held.rest, held.keepAlive = bytes.Clone(x.rest), x.keepAlive
	if st := sd.state(x.data); st != nil {
		held.proxied = st.peer.IsValid()
		sd.free(x.data)
	}
	sd.loop.Give(x.conn, sd.owner, 0)
	sd.loop.Pause(x.conn)
	sd.loop.Wake(x.conn, 0)
	x.done = waits
}

// back takes a connection whose held exchange is answered.
func (sd *side) back(x *Exchange) {
	rest := x.rest
	x.rest = nil
	sd.resume(x, func(data uint32) {
		if len(rest) > 0 {
			sd.consume(x.conn, data, rest)
		}
	})
}

// pass has net/http answer an exchange that was postponed.
func (sd *side) pass(x *Exchange) {
	b := append(x.raw, x.rest...)
	sd.resume(x, func(data uint32) {
		if sd.request.Parse(b) == nil { // as before
			sd.hand(x.conn, data, &sd.request, b)
		}
	})
}

// resume takes the connection of a held exchange, and goes on with it by f.
func (sd *side) resume(x *Exchange, f func(data uint32)) {
	if !sd.loop.Alive(x.conn) {
		return
	}
	data := uint32(0)
	sd.loop.Give(x.conn, sd.owner, 0)
	if x.proxied {
		var st *state
		data, st = sd.ensure(x.conn, 0)
		st.peer = x.peer
	}
	sd.loop.Wake(x.conn, sd.server.options.IdleTime)
	sd.loop.Post(func() { // not from within what answered it
		sd.loop.Resume(x.conn) // before the rest, which may hold it again
		if sd.loop.Alive(x.conn) {
			f(data)
		}
	})
}

// httpRequest is x's request in full.
func (sd *side) httpRequest(x *Exchange) (*http.Request, error) {
	remote := ""
	if x.peer.IsValid() {
		remote = netip.AddrPortFrom(x.peer, sd.loop.Peer(x.conn).Port()).String()
	}
	r, err := x.head.HTTP(remote, nil)
	if err != nil {
		return nil, err
	}
	if conn := sd.loop.TLS(x.conn); conn != nil {
		state := conn.ConnectionState()
		r.TLS = &state
	}
	if p := sd.server.options.Prefix; p != "" {
		r.URL.Path, r.URL.RawPath = strings.TrimPrefix(r.URL.Path, p), strings.TrimPrefix(r.URL.RawPath, p)
	}
	return r, nil
}

// now is the Date line of this second (RFC 9110 §6.6.1).
func (sd *side) dateLine() []byte {
	if now := time.Now(); now.Unix() != sd.dated {
		sd.dated = now.Unix()
		sd.date = append(now.UTC().AppendFormat(append(sd.date[:0], "Date: "...), http.TimeFormat), "\r\n"...)
	}
	return sd.date
}
