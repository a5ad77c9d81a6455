package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/deliver/gateway"
	"github.com/chappe/chappe/internal/problem"
)

// Gateway tells what it holds, and forgets it.
type Gateway interface {
	Routes() []gateway.RouteStatus
	Cache() gateway.CacheStatus
	PurgeTag(name string, softly bool) int
	PurgeURL(address string, softly bool) int
}

type routesAnswer struct {
	Body struct {
		Routes []gateway.RouteStatus `json:"routes"`
	}
}

type cacheAnswer struct{ Body gateway.CacheStatus }

type purgeRequest struct {
	Tag  string `query:"tag" doc:"A tag of a route, or one that the upstream gave by Surrogate-Key or Cache-Tag."`
	URL  string `query:"url" doc:"A path with its query, as clients send it; on all hosts."`
	Soft bool   `query:"soft" doc:"Keep the answers, but ask the upstream before they are used again."`
}

// Resolve refuses other parameters: an address whose & was not escaped brings
// some, and would purge nothing.
func (r *purgeRequest) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	for name := range u.Query() {
		if name != "tag" && name != "url" && name != "soft" {
			return []error{errors.New("there is no parameter " + name + "; escape the & of an address as %26")}
		}
	}
	return nil
}

type purgeAnswer struct {
	Body struct {
		Purged int `json:"purged" doc:"How many answers there were."`
	}
}

func (s *server) registerCache(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-routes", Method: http.MethodGet, Path: "/v1/routes",
		Summary:  "List the gateway's routes, with the state of their upstreams",
		Metadata: needs(account.ScopeAdmin),
	}, func(context.Context, *struct{}) (*routesAnswer, error) {
		a := &routesAnswer{}
		a.Body.Routes = s.Gateway.Routes()
		return a, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "show-cache", Method: http.MethodGet, Path: "/v1/cache",
		Summary:  "Tell what the gateway's cache holds",
		Metadata: needs(account.ScopeAdmin),
	}, func(context.Context, *struct{}) (*cacheAnswer, error) {
		return &cacheAnswer{s.Gateway.Cache()}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "purge-cache", Method: http.MethodDelete, Path: "/v1/cache",
		Summary:     "Remove answers from the gateway's cache, by tag or by address",
		Description: "When it has answered nobody is given one of them any more, nor what was being fetched when it was asked.",
		Metadata:    needs(account.ScopeAdmin),
	}, s.purge)
}

func (s *server) purge(ctx context.Context, in *purgeRequest) (*purgeAnswer, error) {
	if (in.Tag == "") == (in.URL == "") {
		return nil, s.fail(ctx, problem.New("bad-request", "Say what to purge: one of ?tag=NAME and ?url=/path?query"))
	}
	a := &purgeAnswer{}
	if in.Tag != "" {
		a.Body.Purged = s.Gateway.PurgeTag(in.Tag, in.Soft)
	} else {
		a.Body.Purged = s.Gateway.PurgeURL(in.URL, in.Soft)
	}
	return a, nil
}
