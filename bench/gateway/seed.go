package main

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/patrickmn/go-cache"
)

// serveSeed does what the article's program does: bodies by URL for five
// minutes, one request to the upstream for each miss, whatever it answers. It
// ends with ctx.
func serveSeed(ctx context.Context, upstream, listen string) error {
	bodies := cache.New(5*time.Minute, 10*time.Minute)
	server := &http.Server{Addr: listen, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			http.NotFound(w, r)
			return
		}
		w.Header().Add("Content-Type", "application/json")
		w.Header().Add("Access-Control-Allow-Origin", "*")
		key := r.URL.String()
		if body, found := bodies.Get(key); found {
			_, _ = w.Write([]byte(body.(string))) // a client that has gone
			return
		}
		resp, err := http.Get("http://" + upstream + key)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		bodies.Set(key, string(body), cache.DefaultExpiration)
		_, _ = w.Write(body) // a client that has gone
	})}
	context.AfterFunc(ctx, func() { _ = server.Close() }) // nothing is kept
	return server.ListenAndServe()
}
