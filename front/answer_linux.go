//go:build linux && !nethttp

package front

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/chappe/chappe/internal/head"
	"github.com/chappe/chappe/internal/loop"
)

// answer writes a whole answer, after which the connection goes on.
func (sd *side) answer(x *Exchange, status int, header http.Header, body []byte) {
	b := sd.begin(x, status)
	b = appendHeader(b, header)
	if status != http.StatusNotModified && status != http.StatusNoContent { // RFC 9110 §8.6
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10), "\r\n"...)
	}
	if !x.keepAlive {
		b = append(b, "Connection: close\r\n"...)
	}
	sd.loop.Write(x.conn, append(append(b, "\r\n"...), body...))
	sd.out = b[:0]
	held := x.head == nil
	switch {
	case !x.keepAlive:
		sd.loop.End(x.conn)
		x.done = ended
	case held:
		sd.back(x)
	default:
		x.done = answered
	}
}

// begin is the beginning of every answer.
func (sd *side) begin(x *Exchange, status int) []byte {
	b := append(sd.out[:0], "HTTP/1.1 "...)
	b = append(strconv.AppendInt(b, int64(status), 10), ' ')
	b = append(append(b, http.StatusText(status)...), "\r\n"...)
	b = append(b, sd.dateLine()...)
	b = append(b, sd.server.always...)
	if x.Has("origin") && sd.server.options.CORS != nil {
		if r, err := x.Request(); err == nil {
			b = appendHeader(b, sd.server.options.CORS(r))
		}
	}
	return b
}

func appendHeader(b []byte, header http.Header) []byte {
	for name, values := range header {
		for _, value := range values {
			b = append(append(append(append(b, name...), ": "...), clean.Replace(value)...), "\r\n"...)
		}
	}
	return b
}

// clean keeps a value on its line.
var clean = strings.NewReplacer("\r", " ", "\n", " ")

// stream begins an answer that ends with its connection.
func (sd *side) stream(x *Exchange, contentType string, owner loop.OwnerID, data uint32) loop.Conn {
	if x.alive() == 0 {
		return 0
	}
	b := append(append(append(sd.begin(x, http.StatusOK), "Content-Type: "...), contentType...), "\r\n"...)
	b = append(b, "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\n"...) // nginx passes on at once
	sd.out = b[:0]
	return sd.give(x, b, owner, data)
}

// upgrade answers a WebSocket handshake (RFC 6455 §4.2.2).
func (sd *side) upgrade(x *Exchange, extension string, owner loop.OwnerID, data uint32) loop.Conn {
	if x.alive() == 0 {
		return 0
	}
	b := append(sd.out[:0], "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	b = append(x.appendAccept(b), "\r\n"...)
	if extension != "" {
		b = append(append(append(b, "Sec-WebSocket-Extensions: "...), extension...), "\r\n"...)
	}
	b = append(b, "\r\n"...)
	sd.out = b[:0]
	return sd.give(x, b, owner, data)
}

// give writes the answer's head and gives the connection away for good.
func (sd *side) give(x *Exchange, b []byte, owner loop.OwnerID, data uint32) loop.Conn {
	sd.loop.Wake(x.conn, 0)
	sd.loop.Give(x.conn, owner, data)
	if x.head == nil { // it was held: what came meanwhile is for the owner, once it has begun
		rest := x.rest
		sd.loop.Post(func() {
			sd.loop.Inject(x.conn, rest)
			sd.loop.Resume(x.conn)
		})
	}
	sd.loop.Cork(x.conn)
	sd.loop.Write(x.conn, b)
	x.done = given
	return x.conn
}

// answerPrepared writes an answer that needs no making, if there is one.
func (sd *side) answerPrepared(x *Exchange) {
	a, ok := sd.server.prepared(x)
	if !ok {
		return
	}
	sd.server.metrics.requests[byPrepared].Inc()
	sd.write(x, a)
}

// reply writes a prepared answer to an exchange that was postponed.
func (sd *side) reply(x *Exchange, a Answer) {
	if x.alive() == 0 {
		return
	}
	sd.server.metrics.requests[byPrepared].Inc()
	if sd.write(x, a); x.done == answered {
		sd.back(x)
	}
}

// write writes a short answer at once.
func (sd *side) write(x *Exchange, a Answer) {
	b := append(append(sd.out[:0], a.Head...), a.Lines...)
	if !a.Dated {
		b = append(b, sd.dateLine()...)
	}
	if !x.keepAlive {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "\r\n"...)
	if len(a.Body) <= maxTogether {
		b = append(b, a.Body...)
		a.Body = nil
	}
	sd.loop.Write(x.conn, b)
	sd.loop.WriteShared(x.conn, a.Body)
	sd.out = b[:0]
	if x.done = answered; !x.keepAlive {
		sd.loop.End(x.conn)
		x.done = ended
	}
}

// maxTogether is how large a body may be that is copied to be written with its head.
const maxTogether = 16 << 10

// refuse answers what is no request.
func (sd *side) refuse(c loop.Conn, err error) {
	status, reason := http.StatusBadRequest, "This is not HTTP/1.1."
	if e, ok := errors.AsType[*head.Error](err); ok {
		status, reason = e.Status, e.Reason
	}
	sd.server.metrics.refused.WithLabelValues("bad-request").Inc()
	b := append(sd.out[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(append(append(b, ' '), http.StatusText(status)...), "\r\n"...)
	b = append(b, sd.dateLine()...)
	b = append(strconv.AppendInt(append(b, "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: "...), int64(len(reason)+1), 10), "\r\n\r\n"...)
	sd.loop.Write(c, append(append(b, reason...), '\n'))
	sd.out = b[:0]
	sd.loop.End(c)
}
