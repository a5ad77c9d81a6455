package front

import (
	"bytes"
	"net/http"
	"net/netip"
	"strings"
	"unsafe"

	"github.com/chappe/chappe/internal/head"
	"github.com/chappe/chappe/internal/loop"
	"github.com/chappe/chappe/internal/ws"
)

// Waiting handles the requests of a path whose connections may wait. It is
// called on a loop, and must not block; what it does with the exchange it does
// on that loop, now or, after Hold, later. It must end it with one of Answer,
// Stream and Upgrade.
type Waiting func(x *Exchange)

// Exchange is a request whose connection may wait, on a loop's own socket or
// on net/http's.
type Exchange struct {
	loop    *loop.Loop
	peer    netip.Addr
	request *http.Request // on the loop only once it is asked for
	body    []byte

	// On the loop:
	side      *side
	conn      loop.Conn
	data      uint32        // the side's
	head      *head.Request // until Hold; then request has it all
	rest      []byte        // came after this request
	raw       []byte        // the request itself, if it may be passed on
	keepAlive bool
	knownHost bool
	proxied   bool // peer is what a PROXY header said
	done      done

	// On net/http:
	outcome chan outcome
	pipe    *loop.Pipe
	dead    bool // the client is gone
}

// done is what became of an exchange on the loop.
type done uint8

const (
	untouched done = iota
	waits          // held, or given away until it is answered
	answered       // the connection goes on
	given          // to its new owner, for good
	ended
)

// Loop is where the exchange belongs.
func (x *Exchange) Loop() *loop.Loop { return x.loop }

// Peer is the address of the other side, by its PROXY header if it is trusted
// to send one; invalid on a Unix socket.
func (x *Exchange) Peer() netip.Addr {
	if !x.peer.IsValid() && x.head != nil {
		x.peer = x.side.peer(x.conn, x.data)
	}
	return x.peer
}

// Host is the request's, as it was sent; KnownHost tells whether it is one of
// ours. It is valid until Hold or the end of the call.
func (x *Exchange) Host() string {
	if x.head != nil {
		return unsafe.String(unsafe.SliceData(x.head.Host), len(x.head.Host))
	}
	return x.request.Host
}

// KnownHost reports whether the Host is one of ours. Only what is Prepared
// sees others.
func (x *Exchange) KnownHost() bool { return x.knownHost || x.head == nil }

// Secure reports whether the connection is our own TLS.
func (x *Exchange) Secure() bool {
	if x.head != nil {
		return x.side.encrypted(x.conn)
	}
	return x.request.TLS != nil
}

// Target is the path and query as they were sent, with the prefix; empty if
// the target has another form (RFC 9112 §3.2.1). It is valid until Hold or the
// end of the call.
func (x *Exchange) Target() string {
	if x.head == nil {
		return x.request.RequestURI
	}
	if t := x.head.Target; t[0] == '/' {
		return unsafe.String(unsafe.SliceData(t), len(t))
	}
	return ""
}

// Path is the target's path as it was sent, not decoded, and without the
// prefix. It is valid until Hold or the end of the call.
func (x *Exchange) Path() []byte {
	if x.head != nil {
		return x.side.path(x.head)
	}
	return []byte(x.request.URL.EscapedPath())
}

// Query is the target's part after "?", not decoded. It is valid until Hold or
// the end of the call.
func (x *Exchange) Query() []byte {
	if x.head != nil {
		return x.head.Query
	}
	return []byte(x.request.URL.RawQuery)
}

// Has reports whether there is a header field of that name, in lower case.
func (x *Exchange) Has(name string) bool {
	if x.head != nil {
		return x.head.Get(name) != nil
	}
	return len(x.request.Header[http.CanonicalHeaderKey(name)]) > 0
}

// Header is a header field by its name in lower case; several are joined by
// commas. It is valid until Hold or the end of the call.
func (x *Exchange) Header(name string) string {
	if x.head == nil {
		return strings.Join(x.request.Header[http.CanonicalHeaderKey(name)], ",")
	}
	if b := x.head.Get(name); x.head.Count(name) <= 1 {
		return unsafe.String(unsafe.SliceData(b), len(b))
	}
	return x.head.Joined(name)
}

// Body is the body of a POST.
func (x *Exchange) Body() []byte { return x.body }

// Request is the request as net/http would give it, but for the body. It
// allocates; what comes without credentials from no browser need not ask.
func (x *Exchange) Request() (*http.Request, error) {
	if x.request == nil {
		r, err := x.side.httpRequest(x)
		if err != nil {
			return nil, err
		}
		x.request = r
	}
	return x.request, nil
}

// Hold returns the exchange to be kept past the call. Its connection is not
// read until it is answered.
func (x *Exchange) Hold() (*Exchange, error) {
	if x.head == nil {
		return x, nil
	}
	if _, err := x.Request(); err != nil {
		return nil, err
	}
	held := &Exchange{loop: x.loop, peer: x.Peer(), request: x.request, body: bytes.Clone(x.body), side: x.side, conn: x.conn}
	x.side.hold(held, x)
	return held, nil
}

// Postpone is Hold for an exchange that may be passed on to net/http after all.
// Only what is Prepared can be.
func (x *Exchange) Postpone() (*Exchange, error) {
	raw := bytes.Clone(x.head.Bytes())
	held, err := x.Hold()
	if err == nil {
		held.raw = raw
	}
	return held, err
}

// Pass gives an exchange that was postponed to net/http.
func (x *Exchange) Pass() { x.side.pass(x) }

// Reply answers an exchange that was postponed by what is prepared.
func (x *Exchange) Reply(a Answer) { x.side.reply(x, a) }

// Wait has owner told, under data, if the client goes away before the answer.
// The exchange must be held. It returns 0 if the client has gone.
func (x *Exchange) Wait(owner loop.OwnerID, data uint32) loop.Conn {
	if x.side != nil {
		x.loop.Give(x.conn, owner, data)
		return x.alive()
	}
	c, _ := x.open(owner, data)
	return c
}

func (x *Exchange) alive() loop.Conn {
	if !x.loop.Alive(x.conn) {
		return 0
	}
	return x.conn
}

// Answer answers the exchange with a whole body; the connection can carry
// another then.
func (x *Exchange) Answer(status int, header http.Header, body []byte) {
	if x.side != nil {
		x.side.answer(x, status, header, body)
		return
	}
	x.loop.Close(x.conn)
	x.settle(func(h *hosted) { h.answer(status, header, body) })
}

// Stream begins an answer without end, and gives the connection to owner. It
// returns 0 if the client has gone.
func (x *Exchange) Stream(contentType string, owner loop.OwnerID, data uint32) loop.Conn {
	if x.side != nil {
		return x.side.stream(x, contentType, owner, data)
	}
	c, p := x.open(owner, data)
	if c != 0 {
		x.settle(func(h *hosted) { h.stream(contentType, p) })
	}
	return c
}

// Upgrade makes the connection a WebSocket (RFC 6455 §4.2) and gives it to
// owner; extension is the answer to Sec-WebSocket-Extensions, if any. It
// returns 0 if the client has gone. CheckUpgrade is to be called before.
func (x *Exchange) Upgrade(extension string, owner loop.OwnerID, data uint32) loop.Conn {
	if x.side != nil {
		return x.side.upgrade(x, extension, owner, data)
	}
	c, p := x.open(owner, data)
	if c != 0 {
		accept := string(x.appendAccept(nil))
		x.settle(func(h *hosted) { h.upgrade(accept, extension, p) })
	}
	return c
}

// appendAccept appends the Sec-WebSocket-Accept to the request's key.
func (x *Exchange) appendAccept(b []byte) []byte {
	key := x.Header("sec-websocket-key")
	return ws.AcceptKey(b, unsafe.Slice(unsafe.StringData(key), len(key)))
}

// open makes a pipe to net/http.
func (x *Exchange) open(owner loop.OwnerID, data uint32) (loop.Conn, *loop.Pipe) {
	if x.dead {
		return 0, nil
	}
	x.conn, x.pipe = x.loop.OpenPipe(owner, data)
	return x.conn, x.pipe
}

func (x *Exchange) settle(f func(*hosted)) {
	select {
	case x.outcome <- f:
	default: // only the first counts
	}
}

// CheckUpgrade returns why the request is no WebSocket handshake (RFC 6455
// §4.2.1), and the status that says so; 0 if it is one.
func (x *Exchange) CheckUpgrade() (status int, reason string) {
	switch key := x.Header("sec-websocket-key"); {
	case !x.isUpgrade():
		return http.StatusUpgradeRequired, "This is a WebSocket: ask for it with Upgrade: websocket, on HTTP/1.1."
	case x.Header("sec-websocket-version") != "13":
		return http.StatusUpgradeRequired, "Only version 13 of WebSocket is spoken."
	case !ws.ValidKey(unsafe.Slice(unsafe.StringData(key), len(key))):
		return http.StatusBadRequest, "Sec-WebSocket-Key is not 16 bytes in base64."
	}
	return 0, ""
}

func (x *Exchange) isUpgrade() bool {
	if x.head != nil {
		return bytes.EqualFold(x.head.Upgrade, []byte("websocket"))
	}
	r := x.request
	return r.ProtoMajor == 1 && r.ProtoMinor == 1 && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") &&
		lists(x.Header("connection"), "upgrade")
}

// lists reports whether a header that is a list holds the token.
func lists(header, token string) bool {
	for item := range strings.SplitSeq(header, ",") {
		if strings.EqualFold(strings.TrimSpace(item), token) {
			return true
		}
	}
	return false
}
