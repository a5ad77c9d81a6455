package route

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/chappe/chappe/event"
)

// Config says which requests are its own, who answers them, and what of the
// answers is kept.
type Config struct {
	// Name is for logs, metrics and /v1/routes; the path if it is not given.
	Name string `yaml:"name"`
	// Path is matched as it is sent, escapes and all. One that ends in a slash
	// matches what is below; of several that match, the longest holds.
	Path string `yaml:"path"`
	// Host restricts the route to requests of that name.
	Host string `yaml:"host"`
	// Upstream is where requests go, path and query unchanged: http://host:port, https://host, h2c://host:port (HTTP/2 without TLS) or unix:/run/app.sock. Of several the one with the fewest requests in flight is asked.
	Upstream []string `yaml:"upstream"`
	// Methods are those that are answered; others get 405. All, if not given.
	Methods []string `yaml:"methods"`
	// TTL is how long an answer is kept that says nothing about it. A route with a ttl forwards no cookies and only those request headers that it names. Failures (5xx) are kept for a second at most, other negative answers for ten.
	TTL time.Duration `yaml:"ttl"`
	// ForceTTL is how long answers are kept whatever they say; never those that set cookies.
	ForceTTL time.Duration `yaml:"force_ttl"`
	// Jitter shortens each time by a random part of this, so that what came together does not expire together.
	Jitter time.Duration `yaml:"jitter"`
	// StaleWhileRevalidate is how long after its time an answer is still given while a new one is fetched (RFC 5861), where the answer does not say.
	StaleWhileRevalidate time.Duration `yaml:"stale_while_revalidate"`
	// StaleIfError is how long after its time an answer is given if the upstream fails (RFC 5861), where the answer does not say.
	StaleIfError time.Duration `yaml:"stale_if_error"`
	// Headers are request headers that the answer depends on: they are forwarded and are part of the key.
	Headers []string `yaml:"headers"`
	// Cookies are cookies that the answer depends on: they are forwarded and are part of the key.
	Cookies []string `yaml:"cookies"`
	// Authorization lets answers to requests with that header be shared, each with those who send the same.
	Authorization bool `yaml:"authorization"`
	// KeepHost sends the client's Host upstream; otherwise the upstream's own is sent, and the client's as X-Forwarded-Host.
	KeepHost bool `yaml:"keep_host"`
	// CORS are the origins whose pages may read the answers, or "*". Preflights are answered here then, and what the upstream says about it is replaced.
	CORS []string `yaml:"cors"`
	// CORSCredentials lets these pages send credentials.
	CORSCredentials bool `yaml:"cors_credentials"`
	// Compress has answers of text kept as gzip and brotli as well.
	Compress bool `yaml:"compress"`
	// Tag names the answers, by {path}, {host}, {query.NAME} and {header.NAME} (a header of headers), for purging them together.
	Tag []string `yaml:"tag"`
	// RefreshOn are topics whose events make answers stale.
	RefreshOn []event.Pattern `yaml:"refresh_on"`
	// RefreshTag says which tags an event makes stale, by {topic}, {type}, {source}, {subject}, {id} and {data.NAME}; all of the route without.
	RefreshTag []string `yaml:"refresh_tag"`
	// Topic is where a new answer is published when it differs from the one before.
	Topic event.Topic `yaml:"topic"`
	// Concurrency is how many requests each origin is sent at once; 64 if not given.
	Concurrency int `yaml:"concurrency"`
	// Queue is how long a request waits for its turn; 5s if not given.
	Queue time.Duration `yaml:"queue"`
	// Health is a path that is asked every 5 seconds: an origin that does not answer it is left out.
	Health string `yaml:"health"`
	// Timeouts bound a request to the upstream.
	Timeouts Timeouts `yaml:"timeouts"`
}

// Timeouts bound a request to the upstream.
type Timeouts struct {
	// Connect is for the connection and its TLS handshake; 2s if not given.
	Connect time.Duration `yaml:"connect"`
	// Head is until the head of the answer; 30s if not given.
	Head time.Duration `yaml:"head"`
	// Body is between two pieces of the body; 30s if not given.
	Body time.Duration `yaml:"body"`
	// Total is for all of it; 2m if not given.
	Total time.Duration `yaml:"total"`
}

// Validate checks one route by itself.
func (c Config) Validate() error {
	switch {
	case !strings.HasPrefix(c.Path, "/"):
		return errors.New("path is missing or does not begin with a slash; write one like /comments/count, or /api/ for all below")
	case strings.ContainsAny(c.Path, "?#* \t") || HasDots(c.Path):
		return fmt.Errorf("path: %q has characters that no path of a request has, or dot segments; escape them as clients do", c.Path)
	case len(c.Upstream) == 0:
		return errors.New("upstream is missing; say who answers, like http://127.0.0.1:8100")
	case c.Host != "" && (c.Host != NormalHost(c.Host, false) || strings.ContainsAny(c.Host, "/*@ ")):
		return fmt.Errorf("host: %q is no host name in lower case; write one like api.example", c.Host)
	case c.CORSCredentials && slices.Contains(c.CORS, "*"):
		return errors.New("cors_credentials: credentials cannot be allowed to all; list the origins in cors (WHATWG Fetch §3.2.5)")
	case len(c.RefreshTag) > 0 && len(c.RefreshOn) == 0:
		return errors.New("refresh_tag: refresh_on is missing; say which topics' events it is for, like comments/**")
	case c.Topic != "" && event.AnyMatches(c.RefreshOn, c.Topic):
		return errors.New("topic: what is published there would make the route stale again, for ever; take one that refresh_on does not match")
	case c.Health != "" && !strings.HasPrefix(c.Health, "/"):
		return errors.New("health is no path; write one like /healthz")
	case c.Concurrency < 0:
		return errors.New("concurrency is negative; leave it out for its default")
	}
	return errors.Join(c.validateTimes(), c.validateNames(), c.validateOrigins(), c.validateTags())
}

func (c Config) validateTimes() error {
	for name, d := range map[string]time.Duration{
		"ttl": c.TTL, "force_ttl": c.ForceTTL, "jitter": c.Jitter, "stale_while_revalidate": c.StaleWhileRevalidate, "stale_if_error": c.StaleIfError,
		"queue": c.Queue, "timeouts.connect": c.Timeouts.Connect, "timeouts.head": c.Timeouts.Head, "timeouts.body": c.Timeouts.Body, "timeouts.total": c.Timeouts.Total,
	} {
		if d < 0 {
			return fmt.Errorf("%s is negative; leave it out for its default", name)
		}
	}
	return nil
}

func (c Config) validateNames() error {
	for _, name := range slices.Concat(c.Methods, c.Headers, c.Cookies) {
		if !isToken(name) {
			return fmt.Errorf("%q is no name of a method, header or cookie", name)
		}
	}
	for _, method := range c.Methods {
		if method != strings.ToUpper(method) {
			return fmt.Errorf("methods: %s is not in capitals, which count (RFC 9110 §9.1); write %s", method, strings.ToUpper(method))
		}
	}
	for _, name := range c.Headers {
		switch http.CanonicalHeaderKey(name) {
		case "Cookie":
			return errors.New("headers: name the cookies themselves, in cookies")
		case "Authorization":
			return errors.New("headers: write authorization: true instead")
		}
		if forbidden(http.CanonicalHeaderKey(name)) {
			return fmt.Errorf("headers: %s says who the client is or how the connection is kept; it is never taken from the client", name)
		}
	}
	return nil
}

func (c Config) validateOrigins() error {
	for _, origin := range c.CORS {
		if origin != "*" && !isOrigin(origin) {
			return fmt.Errorf("cors: %q is not an origin as browsers send it; write a scheme and host in lower case without a path, like https://blog.example", origin)
		}
	}
	return nil
}

// isOrigin knows what can be in Origin (RFC 6454 §6.2).
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") && s == u.Scheme+"://"+NormalHost(u.Host, u.Scheme == "https")
}

func (c Config) validateTags() error {
	for _, t := range c.Tag {
		if _, err := parseTemplate(t, c.isRequestField); err != nil {
			return fmt.Errorf("tag: %w; there are {path}, {host}, {query.NAME} and, of those in headers, {header.NAME}", err)
		}
	}
	for _, t := range c.RefreshTag {
		if _, err := parseTemplate(t, isEventField); err != nil {
			return fmt.Errorf("refresh_tag: %w; there are {topic}, {type}, {source}, {subject}, {id} and {data.NAME}", err)
		}
	}
	return nil
}

// isRequestField knows what a route's tag may be made of: what is in the key.
func (c Config) isRequestField(name string) bool {
	header, isHeader := strings.CutPrefix(name, "header.")
	return name == "path" || name == "host" || strings.HasPrefix(name, "query.") ||
		isHeader && slices.ContainsFunc(c.Headers, func(h string) bool { return strings.EqualFold(h, header) })
}

func isEventField(name string) bool {
	return slices.Contains([]string{"topic", "type", "source", "subject", "id", "data"}, name) || strings.HasPrefix(name, "data.")
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c)
	})
}
