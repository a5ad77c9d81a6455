// Package problem writes errors as RFC 9457 problem details. An error says its
// stable code; which HTTP status a code has is decided here and nowhere else.
package problem

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
)

// Coder is an error with a stable code. Its text is shown to users.
type Coder interface {
	error
	Code() string
}

// Restarter is a Coder that says from which cursor to start over.
type Restarter interface{ Restart() string }

// statuses of the codes. A code that is not here is a 400.
var statuses = map[string]int{
	"token-missing":       http.StatusUnauthorized,
	"token-invalid":       http.StatusUnauthorized,
	"token-expired":       http.StatusUnauthorized,
	"ticket-invalid":      http.StatusUnauthorized,
	"setup-token-invalid": http.StatusForbidden,
	"forbidden":           http.StatusForbidden,
	"origin-refused":      http.StatusForbidden,
	"not-found":           http.StatusNotFound,
	"method-not-allowed":  http.StatusMethodNotAllowed,
	"cursor-gone":         http.StatusGone,
	"event-too-large":     http.StatusRequestEntityTooLarge,
	"batch-too-large":     http.StatusRequestEntityTooLarge,
	"body-too-large":      http.StatusRequestEntityTooLarge,
	"bad-content-type":    http.StatusUnsupportedMediaType,
	"host-refused":        http.StatusMisdirectedRequest,
	"upstream-failed":     http.StatusBadGateway,
	"upstream-loop":       http.StatusLoopDetected,
	"upstream-busy":       http.StatusServiceUnavailable,
	"upstream-timeout":    http.StatusGatewayTimeout,
	"not-cached":          http.StatusGatewayTimeout, // RFC 9111 §5.2.1.7
	"bad-upgrade":         http.StatusUpgradeRequired,
	"too-many-tickets":    http.StatusServiceUnavailable,
	"short-of-memory":     http.StatusServiceUnavailable,
	"too-many-sessions":   http.StatusServiceUnavailable,
	"closing":             http.StatusServiceUnavailable,
	"storage-failed":      http.StatusServiceUnavailable,
	"hook-failed":         http.StatusServiceUnavailable,
	"internal":            http.StatusInternalServerError,
}

// maxRetryAfter is how many seconds at the most a client is asked to stay away.
const maxRetryAfter = 10

// Problem is an error as it is sent (RFC 9457 §3.1).
type Problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail,omitempty"`
	Code   string `json:"code" doc:"Stable: programs decide by it."`
	Cursor string `json:"cursor,omitempty" doc:"With cursor-gone: start over from here."`
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is the problem's own for the types that are asked for (RFC 9457 §3).
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// New makes a problem with a code of the table.
func New(code, detail string) *Problem {
	status, ok := statuses[code]
	if !ok {
		status = http.StatusBadRequest
	}
	return &Problem{Status: status, Title: http.StatusText(status), Detail: detail, Code: code}
}

// From is what a user may see of err. What has no code is our fault: the
// caller logs it, the user learns only that.
func From(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	coder, ok := errors.AsType[Coder](err)
	if !ok {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return New("closing", "The request ended before it was answered.")
		}
		return New("internal", "The server could not do this; its log says why. Nothing was stored.")
	}
	p := New(coder.Code(), err.Error())
	if r, ok := errors.AsType[interface {
		error
		Restarter
	}](err); ok {
		p.Cursor = r.Restart()
	}
	return p
}

// Headers are what the status wants besides: how to authenticate (RFC 9110
// §11.6.1), or when to come back (§10.2.3), which is spread over some seconds.
func (p *Problem) Headers() http.Header {
	switch p.Status {
	case http.StatusUnauthorized:
		return http.Header{"Www-Authenticate": {"Bearer"}} // as net/http spells it
	case http.StatusServiceUnavailable:
		return http.Header{"Retry-After": {strconv.Itoa(1 + rand.IntN(maxRetryAfter))}}
	}
	return nil
}

// Answer is the header and body of the answer that the problem is.
func (p *Problem) Answer() (http.Header, []byte) {
	h := p.Headers()
	if h == nil {
		h = http.Header{}
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	body, _ := json.Marshal(p) // strings and a number always marshal
	return h, append(body, '\n')
}

// Write answers with the problem.
func Write(w http.ResponseWriter, p *Problem) {
	h, body := p.Answer()
	maps.Copy(w.Header(), h)
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the client may have gone
}
