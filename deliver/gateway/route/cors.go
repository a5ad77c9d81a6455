package route

import (
	"net/http"
	"slices"
	"strings"
)

// PrepareCORS makes an upstream's answer one that the route's pages may read:
// what the upstream says about it is replaced (WHATWG Fetch §3.2).
func (rt *Route) PrepareCORS(h http.Header) {
	if len(rt.CORS) == 0 {
		return
	}
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
	if slices.Contains(rt.CORS, "*") {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", exposed)
	} else {
		AddVary(h, "Origin")
	}
}

// exposed are the fields that pages may read besides the safe ones.
const exposed = "Age, Cache-Status, Date, ETag, Location, Retry-After"

// CORSLines are the fields for a page of a listed origin, if it is one.
func (rt *Route) CORSLines(b []byte, origin string) []byte {
	if origin == "" || !slices.Contains(rt.CORS, origin) {
		return b
	}
	b = append(append(append(b, "Access-Control-Allow-Origin: "...), origin...), "\r\nAccess-Control-Expose-Headers: "+exposed+"\r\n"...)
	if rt.CORSCredentials {
		b = append(b, "Access-Control-Allow-Credentials: true\r\n"...)
	}
	return b
}

// MarkCORS is PrepareCORS and CORSLines for an answer that is passed on.
func (rt *Route) MarkCORS(h http.Header, origin string) {
	rt.PrepareCORS(h)
	rt.AddCORS(h, origin)
}

// AddCORS is CORSLines for a header.
func (rt *Route) AddCORS(h http.Header, origin string) {
	for line := range strings.SplitSeq(string(rt.CORSLines(nil, origin)), "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			h.Set(name, value)
		}
	}
}

// Preflight answers a preflight (WHATWG Fetch §3.2.2), if it is one and the
// route answers them.
func (rt *Route) Preflight(w http.ResponseWriter, r *http.Request) bool {
	method := r.Header.Get("Access-Control-Request-Method")
	if r.Method != http.MethodOptions || len(rt.CORS) == 0 || r.Header.Get("Origin") == "" || method == "" {
		return false
	}
	h := w.Header()
	rt.MarkCORS(h, r.Header.Get("Origin"))
	AddVary(h, "Access-Control-Request-Method")
	AddVary(h, "Access-Control-Request-Headers")
	if h.Get("Access-Control-Allow-Origin") != "" && rt.Allows(method) {
		methods := rt.Methods
		if len(methods) == 0 {
			methods = []string{method}
		}
		h.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
		h.Set("Access-Control-Max-Age", "600")
		if headers := r.Header.Get("Access-Control-Request-Headers"); headers != "" {
			h.Set("Access-Control-Allow-Headers", headers)
		}
	}
	h.Del("Access-Control-Expose-Headers")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// AddVary adds a name to Vary, unless it is there.
func AddVary(h http.Header, name string) {
	for _, v := range h["Vary"] {
		for item := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(item), name) {
				return
			}
		}
	}
	h.Add("Vary", name)
}
