// Package api is the REST interface: publishing to and reading the log,
// tickets, the state of watches, and the gateway's cache. The operations are described to huma,
// which makes the OpenAPI document at /v1/openapi.json from them.
//
// Every error is an RFC 9457 problem with a stable code (internal/problem).
package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/problem"
	"github.com/chappe/chappe/source"
)

// Watches tells the state of what is watched.
type Watches interface{ Statuses() []source.Status }

// Options of the API. All but Version are required.
type Options struct {
	Publisher event.Publisher
	Reader    event.Reader
	Access    *account.Access
	Watches   Watches
	Gateway   Gateway
	Logger    *slog.Logger
	Version   string
}

// maxBody bounds a request's body.
const maxBody = 8 << 20

type server struct{ Options }

// New returns the handler of the operations below /v1.
func New(o Options) http.Handler {
	s := &server{o}
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Chappe", o.Version)
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "/v1/openapi", "", ""
	config.CreateHooks = nil // no $schema members in answers
	config.Transformers = []huma.Transformer{problems}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	config.Security = []map[string][]string{{"token": {}}}
	api := humago.New(mux, config)
	api.UseMiddleware(s.identify(api))
	s.registerEvents(api)
	s.registerTickets(api)
	s.registerWatches(api)
	s.registerCache(api)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, problem.New("not-found", "There is no "+r.Method+" "+r.URL.Path+"; /v1/openapi.json lists what there is"))
	})
	return mux
}

// problems turns what huma itself refuses into our problems.
func problems(_ huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	code := map[int]string{http.StatusRequestEntityTooLarge: "body-too-large", http.StatusInternalServerError: "internal"}[e.Status]
	if code == "" {
		code = "bad-request"
	}
	detail := e.Detail
	for _, d := range e.Errors {
		detail += "; " + d.Error()
	}
	p := problem.New(code, detail)
	p.Status, p.Title = e.Status, http.StatusText(e.Status)
	return p, nil
}

type identityKey struct{}

// identify finds out whose request it is, for every operation.
func (s *server) identify(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		id, err := s.Access.Identify(r)
		if err != nil {
			problem.Write(w, s.problem(r.Context(), err))
			return
		}
		// Before the body is read: what anyone may send costs memory.
		if scope, ok := ctx.Operation().Metadata[scopeOf].(account.Scope); ok {
			if err := require(id, scope); err != nil {
				problem.Write(w, err)
				return
			}
		}
		next(huma.WithValue(ctx, identityKey{}, id))
	}
}

// scopeOf is the key of an operation's metadata that says which scope it needs.
const scopeOf = "scope"

func needs(scope account.Scope) map[string]any { return map[string]any{scopeOf: scope} }

func identity(ctx context.Context) *account.Identity {
	return ctx.Value(identityKey{}).(*account.Identity)
}

// problem is what the client sees of err; what is our fault is logged.
func (s *server) problem(ctx context.Context, err error) *problem.Problem {
	p := problem.From(err)
	if p.Code == "internal" {
		s.Logger.ErrorContext(ctx, "request failed", "err", err)
	}
	return p
}

// fail is how an operation answers err.
func (s *server) fail(ctx context.Context, err error) error {
	p := s.problem(ctx, err)
	return huma.ErrorWithHeaders(p, p.Headers())
}

// require refuses those who lack the scope.
func require(id *account.Identity, scope account.Scope) *problem.Problem {
	switch {
	case id.May(scope):
		return nil
	case !id.Known():
		return problem.New("token-missing", "Send an API token with the scope "+string(scope)+": Authorization: Bearer chp_...")
	}
	return problem.New("forbidden", "This token lacks the scope "+string(scope))
}

type ticketAnswer struct {
	Body struct {
		Ticket  string    `json:"ticket" doc:"Goes into the URL as ticket=..."`
		Expires time.Time `json:"expires" doc:"Connect before; it lasts ten minutes past its last session, and never longer than the token."`
	}
}

func (s *server) registerTickets(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "create-ticket", Method: http.MethodPost, Path: "/v1/tickets",
		Summary:      "Get a ticket for EventSource or a plain WebSocket, which cannot send a token",
		MaxBodyBytes: 1 << 10,
	}, func(ctx context.Context, _ *struct{}) (*ticketAnswer, error) {
		if !identity(ctx).Known() {
			return nil, s.fail(ctx, problem.New("token-missing", "Send the token that the ticket is to stand for: Authorization: Bearer ..."))
		}
		secret, expires, err := s.Access.Tickets.Issue(identity(ctx))
		if err != nil {
			return nil, s.fail(ctx, err)
		}
		a := &ticketAnswer{}
		a.Body.Ticket, a.Body.Expires = secret, expires.UTC()
		return a, nil
	})
}

type watchesAnswer struct {
	Body struct {
		Watches []source.Status `json:"watches"`
	}
}

func (s *server) registerWatches(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-watches", Method: http.MethodGet, Path: "/v1/watches",
		Summary:  "List what is watched, with its state, why, and when it is tried next",
		Metadata: needs(account.ScopeAdmin),
	}, func(context.Context, *struct{}) (*watchesAnswer, error) {
		a := &watchesAnswer{}
		a.Body.Watches = s.Watches.Statuses()
		return a, nil
	})
}
