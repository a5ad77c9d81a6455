package push_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/deliver/push"
)

func TestOrigins(t *testing.T) {
	f := newFixture(t, push.Limits{})
	base := account.Origins{Base: &url.URL{Scheme: "https", Host: "push.example"}, Allowed: []string{"https://app.example"}}
	loopback := strings.TrimPrefix(f.server.URL, "http://")
	cases := []struct {
		name           string
		origins        account.Origins
		host           string // push.example if empty
		origin         string
		site           string // Sec-Fetch-Site
		cookie         bool
		socket, stream bool // let in
	}{
		{"ours", base, "", "https://push.example", "", false, true, true},
		{"ours with a cookie", base, "", "https://push.example", "same-origin", true, true, true},
		{"ours in capitals", base, "", "HTTPS://Push.Example", "", false, true, true},
		{"ours with its port", base, "", "https://push.example:443", "", false, true, true},
		{"other port", base, "", "https://push.example:8443", "", false, false, false},
		{"http for https", base, "", "http://push.example", "", false, false, false},
		{"suffix", base, "", "https://push.example.evil.tld", "", false, false, false},
		{"prefix", base, "", "https://evil-push.example", "", false, false, false},
		{"below", base, "", "https://www.push.example", "", false, false, false},
		{"with a path", base, "", "https://push.example/x", "", false, false, false},
		{"user info", base, "", "https://push.example@evil.tld", "", false, false, false},
		{"null", base, "", "null", "", false, false, false},
		{"file", base, "", "file://", "", false, false, false},
		{"listed", base, "", "https://app.example", "cross-site", false, true, true},
		{"listed, by http", base, "", "http://app.example", "cross-site", false, false, false},
		{"listed with a port", base, "", "https://app.example:8443", "", false, false, false},
		{"foreign", base, "", "https://evil.tld", "cross-site", true, false, false},
		{"foreign, same site", base, "", "https://blog.example", "same-site", true, false, false},
		{"no origin", base, "", "", "", false, true, true},
		{"no origin, a cookie", base, "", "", "", true, false, true},
		{"no origin, same-origin", base, "", "", "same-origin", true, false, true},
		{"no origin, typed", base, "", "", "none", true, false, true},
		{"no origin, cross-site", base, "", "", "cross-site", true, false, false},
		{"no origin, same-site", base, "", "", "same-site", true, false, false},
		{"foreign, for a loopback host", base, loopback, "https://evil.tld", "", false, false, false},
		{"loopback beside base_url", base, loopback, "http://" + loopback, "", false, true, true},
		{"without base_url", account.Origins{}, "", "https://push.example", "", false, true, true},
		{"without base_url, other", account.Origins{}, "", "https://app.example", "", false, false, false},
		{"without base_url, other port", account.Origins{}, loopback, "http://127.0.0.1:1", "", false, false, false},
		{"without base_url, rebound", account.Origins{}, loopback, "http://evil.tld", "", false, false, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f.access.Origins = c.origins
			header := http.Header{}
			for name, value := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site} {
				if value != "" {
					header.Set(name, value)
				}
			}
			if c.cookie {
				header.Set("Cookie", "theirs=1")
			}
			for path, want := range map[string]bool{"/v1/ws": c.socket, "/v1/stream": c.stream, "/v1/poll": c.stream} {
				if got := letIn(t, f, path, c.host, header); got != want {
					t.Errorf("%s let in: %v, want %v", path, got, want)
				}
			}
		})
	}
}

func letIn(t *testing.T, f *fixture, path, host string, header http.Header) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, f.server.URL+path+"?topic=a&wait=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header.Clone()
	req.Host = host
	if host == "" {
		req.Host = "push.example"
	}
	if path == "/v1/ws" {
		for name, value := range map[string]string{
			"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		} {
			req.Header.Set(name, value)
		}
	}
	resp, err := f.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusSwitchingProtocols:
		return true
	case http.StatusForbidden:
		return false
	}
	t.Fatalf("%s was answered %s", path, resp.Status)
	return false
}
