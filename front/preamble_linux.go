//go:build linux && !nethttp

package front

import (
	"crypto/tls"
	"errors"

	"github.com/chappe/chappe/internal/head"
	"github.com/chappe/chappe/internal/loop"
)

// preamble reads what stands before the first request: a PROXY header, the
// beginning of a TLS handshake.
func (sd *side) preamble(c loop.Conn, data uint32, st *state, b []byte) (n int, on bool) {
	if st.stage == stageTLS {
		return 0, sd.secure(c, data, st, b)
	}
	source, n, err := head.ParseProxy(b)
	switch {
	case errors.Is(err, head.ErrIncomplete):
		sd.keep(c, data, b, 0, sd.server.options.HeadTime)
		return 0, false
	case err != nil:
		sd.server.metrics.refused.WithLabelValues("bad-proxy-header").Inc()
		sd.loop.Close(c)
		sd.free(data)
		return 0, false
	}
	st.stage, st.peer = stageRequest, source.Addr()
	if sd.server.options.TLS != nil {
		st.stage = stageTLS
	}
	return n, true
}

// secure begins the TLS handshake once the client's hello is whole: until then
// it costs nobody anything to wait for it. It always returns false: the
// connection comes back when the handshake is over.
func (sd *side) secure(c loop.Conn, data uint32, st *state, b []byte) bool {
	const handshake, recordHead, enough = 22, 5, 4 << 10 // RFC 8446 §5.1; more is waited for by the handshake
	limit := sd.server.options.HeadTime
	if b[0] != handshake {
		sd.server.metrics.handshakes.WithLabelValues("no-tls").Inc()
		sd.loop.Write(c, plainOnTLS)
		sd.loop.End(c)
		sd.free(data)
		return false
	}
	if len(b) < recordHead {
		sd.keep(c, data, b, 0, limit)
		return false
	}
	if want := recordHead + min(enough, int(b[3])<<8|int(b[4])); len(b) < want {
		sd.keep(c, data, b, want, limit)
		return false
	}
	peer := st.peer
	sd.free(data)
	sd.loop.Give(c, sd.owner, 0)
	sd.loop.Wake(c, 0)
	sd.loop.Secure(c, sd.server.options.TLS, b, sd.server.gate, limit, func(conn *tls.Conn, lent *loop.Lent, err error) {
		if err != nil {
			sd.server.metrics.handshakes.WithLabelValues("failed").Inc()
			_ = lent.Close() // it is of no use
			return
		}
		sd.server.metrics.handshakes.WithLabelValues("done").Inc()
		if conn.ConnectionState().NegotiatedProtocol == "h2" {
			if peer.IsValid() {
				lent.Remote = addressOf(peer, lent.RemoteAddr())
			}
			sd.server.queue.put(conn)
			return
		}
		lent.Return(func() {
			sd.loop.Wake(c, limit)
			if peer.IsValid() {
				_, st := sd.ensure(c, 0)
				st.peer = peer
			}
		})
	})
	return false
}

// plainOnTLS tells a person who typed http:// what to type.
var plainOnTLS = []byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: 43\r\n\r\nThis port speaks HTTPS: write https:// first")
