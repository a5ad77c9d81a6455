package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
)

// A page of allowed_origins sends the application's cookie, where there is a
// hook to judge it, and may read the answer.
func TestHookAllowsCredentials(t *testing.T) {
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") != "session=1" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, `{"user":"alice","topics":["mail/alice/**"]}`)
	}))
	defer application.Close()
	for url, want := range map[string]struct {
		status      int
		credentials string
	}{application.URL: {http.StatusOK, "true"}, "": {http.StatusUnauthorized, ""}} {
		s := &settings{Data: filepath.Join(t.TempDir(), "data"), Limits: limitSettings{Event: 1 << 18}}
		s.Server.AllowedOrigins = []string{"https://app.example"}
		s.Access.Hook.URL = url
		srv, err := build(t.Context(), s, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer srv.close()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/events?topic=mail/alice/inbox", nil)
		r.Host = "localhost"
		for name, value := range map[string]string{"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site", "Cookie": "chappe=chp_x; session=1"} {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		srv.routes().ServeHTTP(w, r)
		if h := w.Header(); w.Code != want.status || h.Get("Access-Control-Allow-Credentials") != want.credentials || h.Get("Access-Control-Allow-Origin") != "https://app.example" {
			t.Errorf("with the hook %q: %d %v %s, want %d and credentials allowed: %q", url, w.Code, h, w.Body, want.status, want.credentials)
		}
	}
}
