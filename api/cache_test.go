package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/deliver/gateway"
)

// purges records what a gateway was asked to forget.
type purges struct{ asked []string }

func (*purges) Routes() []gateway.RouteStatus {
	return []gateway.RouteStatus{{Name: "counts", Path: "/comments/", TTL: "5m0s", Upstreams: []gateway.UpstreamStatus{{URL: "http://127.0.0.1:8100", Up: true, Breaker: "closed"}}}}
}

func (*purges) Cache() gateway.CacheStatus { return gateway.CacheStatus{Keys: 2, Bytes: 3, Size: 4} }

func (p *purges) PurgeTag(name string, softly bool) int { return p.note("tag", name, softly) }

func (p *purges) PurgeURL(address string, softly bool) int { return p.note("url", address, softly) }

func (p *purges) note(kind, what string, softly bool) int {
	if softly {
		kind = "soft " + kind
	}
	p.asked = append(p.asked, kind+" "+what)
	return len(p.asked)
}

func TestPurge(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct {
		query  string
		status int
		body   string
	}{
		{"?tag=comments:/a", http.StatusOK, `"purged":1`},
		{"?url=/comments/count%3Furl%3D/a%26b", http.StatusOK, `"purged":2`},
		{"?tag=a&soft=true", http.StatusOK, `"purged":3`},
		{"?url=/a&soft=true", http.StatusOK, `"purged":4`},
		{"", http.StatusBadRequest, "Say what to purge"},
		{"?tag=a&url=/b", http.StatusBadRequest, "Say what to purge"},
		{"?url=/a?b=c&d=e", http.StatusUnprocessableEntity, "escape the & of an address as %26"},
		{"?tag=a&soft=perhaps", http.StatusUnprocessableEntity, `"code":"bad-request"`},
	} {
		w := f.call(t, f.token, http.MethodDelete, "/v1/cache"+tt.query, "")
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
			t.Errorf("DELETE /v1/cache%s answered %d %s, want %d with %s", tt.query, w.Code, w.Body, tt.status, tt.body)
		}
	}
	want := []string{"tag comments:/a", "url /comments/count?url=/a&b", "soft tag a", "soft url /a"}
	if diff := cmp.Diff(want, f.gateway.asked); diff != "" {
		t.Errorf("purged (-want +got):\n%s", diff)
	}
}

func TestCacheIsTheAdminsAlone(t *testing.T) {
	f := newFixture(t)
	reader := f.newToken(t, "reader", account.ScopeRead, account.ScopePublish)
	for _, c := range []struct{ method, target string }{{http.MethodGet, "/v1/routes"}, {http.MethodGet, "/v1/cache"}, {http.MethodDelete, "/v1/cache?tag=a"}} {
		for token, want := range map[string]int{"": http.StatusUnauthorized, reader: http.StatusForbidden, f.token: http.StatusOK} {
			w := f.call(t, token, c.method, c.target, "")
			if w.Code != want || want == http.StatusOK && !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s %s with %.8q: %d %s, want %d", c.method, c.target, token, w.Code, w.Body, want)
			}
		}
	}
}
