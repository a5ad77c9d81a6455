package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// maxInterim is how many 1xx answers may come before the final one. net/http
// bounds them only as long as nobody looks at them.
const maxInterim = 100

var (
	errInterim = errors.New("more than " + strconv.Itoa(maxInterim) + " 1xx answers")
	errTwice   = errors.New("it may have been processed and is not sent again")
)

// attempt is one try of a request at one origin.
type attempt struct {
	at     *place
	client context.Context // of the caller's request
	ctx    context.Context // of what is sent
	cancel context.CancelCauseFunc
	clock  *clock
	safe   bool // may be sent twice
	method string

	begun   atomic.Bool  // a byte of an answer came
	written atomic.Int32 // how often the request's head was
	interim atomic.Int32 // 1xx answers
	upload  atomic.Value // the error of the client's body
}

// RoundTrip sends the request to an origin and gives its answer, with whose body
// the place there is given back. Its errors, and those of the body, are *Error.
// net/http lets a read of r.Body that is under way end before it returns, so the
// caller bounds how long the client may be silent.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	end := time.Now().Add(p.times.Total)
	at, failed := p.enter(r.Context(), choice{}, end)
	if failed != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as a RoundTripper must
		}
		return nil, failed
	}
	answer, failed := p.send(r, at, end)
	if failed == nil {
		return answer, nil
	}
	if !failed.unanswered || !repeatable(r) {
		return nil, failed
	}
	// That there is no connection will not have changed by now.
	other, none := p.enter(r.Context(), choice{at.origin, failed.Kind != Reset}, end)
	if none != nil {
		return nil, failed
	}
	if answer, failed = p.send(r, other, end); failed != nil {
		return nil, failed
	}
	return answer, nil
}

// repeatable requests may be sent twice without harm. RFC 9110 §9.2.2.
func repeatable(r *http.Request) bool {
	return (r.Method == "" || r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		(r.Body == nil || r.Body == http.NoBody)
}

func (p *Pool) send(r *http.Request, at *place, end time.Time) (*http.Response, *Error) {
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), dialTime{}, p.times.Connect))
	a := &attempt{at: at, client: r.Context(), cancel: cancel, safe: repeatable(r), method: r.Method}
	a.clock = newClock(p.times, end, cancel)
	a.ctx = httptrace.WithClientTrace(ctx, a.trace())
	answer, err := at.origin.transport.RoundTrip(a.request(r))
	if err != nil {
		return nil, a.fail(err)
	}
	answer.Request = r
	a.answer(answer)
	return answer, nil
}

// request is r for the origin.
func (a *attempt) request(r *http.Request) *http.Request {
	out := r.WithContext(a.ctx)
	target := *r.URL
	target.Scheme, target.Host = a.at.origin.scheme, a.at.origin.host
	out.URL = &target
	out.GetBody = nil // or the transport could send the body twice
	if !a.safe {
		out.Header = hideKeys(r.Header)
	}
	if r.Body != nil && r.Body != http.NoBody {
		out.Body = &upload{r.Body, a}
	}
	return out
}

// hideKeys spells the headers differently that let the transport send any
// request without a body twice. They mean the same to the origin.
func hideKeys(header http.Header) http.Header {
	copied := header
	for canonical, other := range map[string]string{"Idempotency-Key": "idempotency-key", "X-Idempotency-Key": "x-idempotency-key"} {
		if values, ok := header[canonical]; ok {
			copied = copied.Clone()
			delete(copied, canonical)
			copied[other] = values
		}
	}
	return copied
}

// trace tells how far the attempt is. The transport may take a second
// connection, if the one it kept proved dead. Over HTTP/2 it would repeat what has no
// body up to six times after some errors, of which PROTOCOL_ERROR does not say that
// the request was not processed (RFC 9113 §8.7 does for the others).
func (a *attempt) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { a.clock.enter(connecting) },
		GotConn: func(info httptrace.GotConnInfo) {
			begin(info.Conn, a.method)
			if written := a.written.Load(); written > 0 && (!a.safe || written > 1) && a.overHTTP2(info.Conn) {
				a.cancel(errTwice)
			}
			a.clock.enter(sent)
		},
		WroteHeaders:         func() { a.written.Add(1) },
		GotFirstResponseByte: func() { a.begun.Store(true) },
		Got1xxResponse: func(int, textproto.MIMEHeader) error {
			if a.interim.Add(1) > maxInterim {
				a.cancel(errInterim) // an error here would be lost if the caller has a trace, too
			}
			return nil
		},
	}
}

func (a *attempt) overHTTP2(conn net.Conn) bool {
	secured, ok := conn.(*tls.Conn)
	return a.at.origin.h2c || ok && secured.ConnectionState().NegotiatedProtocol == "h2"
}

// answer puts the response's body under the clock, and has it give back the place.
func (a *attempt) answer(r *http.Response) {
	a.clock.enter(answered)
	conn, writable := r.Body.(io.ReadWriteCloser)
	switch r.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		a.at.report(bad, "it answered "+strconv.Itoa(r.StatusCode))
	default:
		if writable || strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream") {
			a.at.leave(good, "") // it may last for days: what is bounded is work
			a.clock.enter(over)
		} else if a.at.probe { // the end may be far
			a.at.report(good, "")
		}
	}
	switch {
	case writable: // of a 101
		r.Body = &upgraded{conn, a}
	case r.Body == http.NoBody:
		a.finish(good, "")
	default:
		r.Body = &download{from: r.Body, a: a}
	}
}

// fail ends the attempt with an error.
func (a *attempt) fail(err error) *Error {
	failed, how := a.judge(err)
	failed.Origin = a.at.origin.name
	a.finish(how, failed.Kind.String()+": "+withoutURL(failed.Err).Error())
	return failed
}

// finish gives back the place and all that the attempt has.
func (a *attempt) finish(how outcome, why string) {
	a.clock.enter(over)
	a.at.leave(how, why)
	a.cancel(nil)
}

// judge says what an error means, and what it says of the origin.
func (a *attempt) judge(err error) (*Error, outcome) {
	phase, begun := a.clock.current(), a.begun.Load()
	cause := context.Cause(a.ctx)
	if late, ok := errors.AsType[*lateError](cause); ok {
		how := neither
		if late.fault {
			how = bad
		}
		return &Error{Kind: Timeout, Err: late, unanswered: phase == connecting}, how
	}
	uploadError, _ := a.upload.Load().(clientError)
	switch {
	case errors.Is(cause, errInterim):
		return &Error{Kind: Malformed, Err: cause}, bad
	case a.client.Err() != nil:
		return &Error{Kind: Canceled, Err: context.Cause(a.client)}, neither
	case uploadError.error != nil:
		return &Error{Kind: Canceled, Err: uploadError.error}, neither
	case errors.Is(cause, errTwice):
		return &Error{Kind: Reset, Err: cause}, bad
	case phase == starting: // the transport refuses the request
		return &Error{Kind: Malformed, Err: err}, neither
	case phase == connecting:
		return &Error{Kind: Connect, Err: err, unanswered: true}, bad
	case phase == sent && begun && !cut(err):
		return &Error{Kind: Malformed, Err: err}, bad
	}
	return &Error{Kind: Reset, Err: err, unanswered: !begun}, bad
}

// cut errors are those of a connection that was closed.
func cut(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
