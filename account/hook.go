package account

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/event"
)

// HookConfig names the address at which the application says, by its own
// cookie or token, who may follow what.
type HookConfig struct {
	// URL is asked with a request's Cookie and Authorization; it answers {"user", "topics", "expires"}.
	URL string `yaml:"url"`
	// Cache is how long an answer holds, at most 1h; 30s when 0.
	Cache time.Duration `yaml:"cache"`
	// Timeout is how long an answer may take, at most 30s; 5s when 0.
	Timeout time.Duration `yaml:"timeout"`
}

// Validate refuses what cannot be asked, and times that make no sense.
func (c HookConfig) Validate() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("url is missing or cannot be asked; write an address like http://127.0.0.1:6543/whoami")
	case c.Cache < 0 || c.Cache > time.Hour:
		return errors.New("cache is negative or more than 1h; give how long an answer may hold, like 30s")
	case c.Timeout < 0 || c.Timeout > 30*time.Second:
		return errors.New("timeout is negative or more than 30s; give how long an answer may take, like 5s")
	}
	return nil
}

// Bounds of the hook.
const (
	hookCache      = 30 * time.Second // of an answer, if not configured
	refusalCache   = 2 * time.Second  // who logs in is known soon
	failureCache   = time.Second
	hookTimeout    = 5 * time.Second
	hookAge        = time.Hour      // of an identity whose answer has no expires
	maxHookAge     = 24 * time.Hour // of any
	maxHookBytes   = 64 << 10
	maxHookTopics  = 64
	maxUserBytes   = 255
	maxCalls       = 64     // at once
	maxCallsWaited = 1024   // for, with those: more are refused
	maxCallsKept   = 20_000 // with their answers
	warnEvery      = time.Minute
)

// errNotLoggedIn refuses what the application does not take.
var errNotLoggedIn = refuse("token-invalid", "neither this server nor the application takes the token; log in there anew")

// hookError is what a client learns of a hook that failed; the log has the cause.
type hookError struct{}

func (hookError) Error() string {
	return "who you are cannot be found out: the application does not answer as it should; come back later"
}

// Code is stable.
func (hookError) Code() string { return "hook-failed" }

// Hook asks the application whose a cookie or token is. An answer holds for a
// while, and all who show the same wait for one call.
type Hook struct {
	config  HookConfig
	client  *http.Client
	logger  *slog.Logger
	metrics hookMetrics
	outage  outage
	places  chan struct{} // one for each call that is being made

	mu      sync.Mutex
	calls   map[[sha256.Size]byte]*call // by what is forwarded
	waiting int                         // of them: not answered yet
}

// NewHook makes the hook of a valid configuration, with its defaults filled
// in. The client's redirects are not followed. Metrics may be nil.
func NewHook(c HookConfig, client *http.Client, logger *slog.Logger, metrics prometheus.Registerer) *Hook {
	if c.Cache == 0 {
		c.Cache = hookCache
	}
	if c.Timeout == 0 {
		c.Timeout = hookTimeout
	}
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // to a log-in page, where nobody logs in
	return &Hook{
		config: c, client: &own, logger: logger, metrics: newHookMetrics(metrics),
		places: make(chan struct{}, maxCalls), calls: map[[sha256.Size]byte]*call{},
	}
}

// credentials are what is forwarded of a request.
type credentials struct{ authorization, cookie string }

func credentialsOf(r *http.Request) credentials {
	return credentials{r.Header.Get("Authorization"), OtherCookies(r.Header)}
}

// OtherCookies are those of a request but for the console's, as they came.
func OtherCookies(h http.Header) string {
	var kept []string
	for _, line := range h.Values("Cookie") {
		for pair := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(pair, "=")
			if name = strings.TrimSpace(name); name != secureCookie && name != plainCookie && strings.TrimSpace(pair) != "" {
				kept = append(kept, strings.TrimSpace(pair))
			}
		}
	}
	return strings.Join(kept, "; ")
}

func (c credentials) key() [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%d %s%s", len(c.authorization), c.authorization, c.cookie))
}

// call is a question to the application, and then its answer.
type call struct {
	answered chan struct{} // closed when identity and err are there
	identity *Identity     // shared by all who asked
	err      error

	until time.Time // the answer holds; zero before there is one; guarded by the hook's mu
}

// identify returns whose the credentials are: an *AuthError if the application
// does not take them, a hookError if it did not say.
func (h *Hook) identify(ctx context.Context, c credentials) (*Identity, error) {
	k := h.find(ctx, c)
	if k == nil {
		h.report(fmt.Errorf("%d calls wait for it already", maxCallsWaited), 0)
		return nil, hookError{}
	}
	select {
	case <-k.answered:
		return k.identity, k.err
	case <-ctx.Done(): // the others wait on
		return nil, ctx.Err()
	}
}

// find returns the call that knows, or will know, the answer. It is a new one
// if need be, nil when there are too many.
func (h *Hook) find(ctx context.Context, c credentials) *call {
	key, now := c.key(), time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.calls[key]; k != nil && k.holds(now) {
		h.metrics.requests.WithLabelValues("cached").Inc()
		return k
	}
	if h.waiting >= maxCallsWaited {
		return nil
	}
	h.makeRoom(now)
	k := &call{answered: make(chan struct{})}
	h.calls[key] = k
	h.waiting++
	go h.run(context.WithoutCancel(ctx), c, k) // ends with the time-out at the latest
	return k
}

func (k *call) holds(now time.Time) bool { return k.until.IsZero() || now.Before(k.until) }

// makeRoom drops answers that hold no more when there are too many. If those
// are few it drops all, lest it looks through them at every request.
func (h *Hook) makeRoom(now time.Time) {
	if len(h.calls) < maxCallsKept {
		return
	}
	for _, all := range []bool{false, true} {
		for key, k := range h.calls {
			if !k.until.IsZero() && (all || !k.holds(now)) {
				delete(h.calls, key)
			}
		}
		if len(h.calls) <= maxCallsKept*9/10 {
			return
		}
	}
}

// run makes the call and answers all who wait for it.
func (h *Hook) run(ctx context.Context, c credentials, k *call) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, h.config.Timeout, fmt.Errorf("it did not answer within %v", h.config.Timeout))
	defer cancel()
	identity, err := h.ask(ctx, c)
	took := time.Since(began)
	h.metrics.seconds.Observe(took.Seconds())
	outcome := h.report(err, took)
	holds := h.config.Cache
	switch outcome {
	case "allowed":
		holds = min(holds, time.Until(identity.Expires))
	case "refused":
		holds = min(holds, refusalCache)
	default:
		err, holds = hookError{}, min(holds, failureCache)
	}
	k.identity, k.err = identity, err
	h.mu.Lock()
	k.until = time.Now().Add(holds)
	h.waiting--
	h.mu.Unlock()
	close(k.answered)
}

// Check asks on behalf of nobody, and returns what is wrong with the answer.
func (h *Hook) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, h.config.Timeout, fmt.Errorf("it did not answer within %v", h.config.Timeout))
	defer cancel()
	_, err := h.ask(ctx, credentials{})
	if _, refused := errors.AsType[*AuthError](err); refused {
		return nil
	}
	return err
}

// ask asks the application, when a place is free for that.
func (h *Hook) ask(ctx context.Context, c credentials) (*Identity, error) {
	select {
	case h.places <- struct{}{}:
		defer func() { <-h.places }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %d other calls are being made", context.Cause(ctx), maxCalls)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.config.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	for name, value := range map[string]string{"Authorization": c.authorization, "Cookie": c.cookie} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, withoutURL(ctx, err)
	}
	defer resp.Body.Close()
	// Read whatever it says, so that the connection serves the next call.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHookBytes+1))
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status >= 300 && status < 400:
		return nil, errNotLoggedIn
	case status != http.StatusOK:
		return nil, fmt.Errorf("it answered with status %d", status)
	case err != nil:
		return nil, withoutURL(ctx, err)
	case len(body) > maxHookBytes:
		return nil, fmt.Errorf("its answer has more than %d bytes", maxHookBytes)
	}
	return parseAnswer(body, time.Now())
}

// withoutURL is the cause of err: the address may hold a password.
func withoutURL(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if outer, ok := errors.AsType[*url.Error](err); ok {
		return outer.Err
	}
	return err
}

// answer is what the application says.
type answer struct {
	User    string   `json:"user"`
	Topics  []string `json:"topics"`
	Expires *instant `json:"expires"`
}

// instant is seconds since 1970, or a time of RFC 3339.
type instant struct{ time.Time }

// UnmarshalJSON takes either.
func (i *instant) UnmarshalJSON(b []byte) error {
	var seconds float64
	if json.Unmarshal(b, &seconds) != nil {
		return json.Unmarshal(b, &i.Time)
	}
	const year9999 = 253_402_300_799
	i.Time = time.UnixMilli(int64(1000 * min(max(seconds, 0), year9999)))
	return nil
}

// parseAnswer is the identity that the answer gives, or errNotLoggedIn when it
// names neither a user nor topics, or has expired.
func parseAnswer(body []byte, now time.Time) (*Identity, error) {
	var a *answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("its answer is not understood: %w", err)
	}
	if a == nil || len(a.User) > maxUserBytes || len(a.Topics) > maxHookTopics {
		return nil, fmt.Errorf("its answer is null, or has a user of more than %d bytes or more than %d topics", maxUserBytes, maxHookTopics)
	}
	patterns, err := event.ParsePatterns(a.Topics)
	if err != nil {
		return nil, fmt.Errorf("topics in its answer: %w", err)
	}
	expires := now.Add(hookAge)
	if a.Expires != nil {
		expires = a.Expires.Time
	}
	if latest := now.Add(maxHookAge); expires.After(latest) {
		expires = latest
	}
	if a.User == "" && len(patterns) == 0 || !expires.After(now) {
		return nil, errNotLoggedIn
	}
	return &Identity{Name: a.User, User: a.User, Expires: expires, patterns: patterns}, nil
}

// report counts and logs how a call ended, and returns the word for it. A hook
// that fails is told once, and once that it answers again.
func (h *Hook) report(err error, took time.Duration) (outcome string) {
	_, refused := errors.AsType[*AuthError](err)
	switch {
	case err == nil:
		outcome = "allowed"
	case refused:
		outcome = "refused"
	default:
		outcome = "failed"
	}
	h.metrics.requests.WithLabelValues(outcome).Inc()
	level, changed := h.outage.note(outcome == "failed")
	switch {
	case outcome == "failed":
		h.logger.Log(context.Background(), level, "access hook failed", "url", h.shownURL(), "err", err, "duration", took)
	case changed:
		h.logger.Info("access hook answered again", "url", h.shownURL())
	}
	return outcome
}

// shownURL has neither password nor query.
func (h *Hook) shownURL() string {
	u, err := url.Parse(h.config.URL)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// outage is whether the hook fails.
type outage struct {
	mu     sync.Mutex
	told   bool
	warned time.Time
}

// note takes a call's outcome and returns how to log it. There is a warning a
// minute at most: a hook that fails for some alone fails and answers in turn.
func (o *outage) note(failed bool) (level slog.Level, changed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case failed && !o.told && time.Since(o.warned) >= warnEvery:
		o.told, o.warned = true, time.Now()
		return slog.LevelWarn, true
	case !failed && o.told:
		o.told = false
		return slog.LevelInfo, true
	}
	return slog.LevelDebug, false
}

type hookMetrics struct {
	requests *prometheus.CounterVec
	seconds  prometheus.Histogram
}

func newHookMetrics(r prometheus.Registerer) hookMetrics {
	m := hookMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_access_hook_requests_total", Help: "Requests that the access hook decided, by outcome."}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chappe_access_hook_seconds", Help: "Time of a call to the access hook, with its wait for a place.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.seconds)
	}
	return m
}
