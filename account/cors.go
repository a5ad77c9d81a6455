package account

import (
	"maps"
	"net/http"
)

// CORS answers preflights and marks answers for pages of other origins that
// may use the API (WHATWG Fetch §3.2). Their credentials are allowed for the
// sake of the application's cookie alone: the console's counts from our own
// pages only (fromOurPages).
func (o Origins) CORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		marks := o.Marks(r)
		maps.Copy(h, marks)
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			next.ServeHTTP(w, r)
			return
		}
		if marks != nil {
			h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-None-Match, If-Match, Last-Event-ID")
			h.Set("Access-Control-Max-Age", "600")
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// Marks are what lets the page that asks read the answer; nil if it may not,
// or is no page.
func (o Origins) Marks(r *http.Request) http.Header {
	origin := r.Header.Get("Origin")
	if origin == "" || !o.May(r, origin) {
		return nil
	}
	h := http.Header{
		"Access-Control-Allow-Origin":   {origin},
		"Access-Control-Expose-Headers": {"ETag, Retry-After, Location"},
	}
	if o.Credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	return h
}
