package account

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chappe/chappe/event"
)

// Cookies of the console. A browser keeps __Host- only with Secure.
const (
	secureCookie = "__Host-chappe"
	plainCookie  = "chappe"
	consoleTTL   = 12 * time.Hour
)

// Access decides who a request comes from and what it may read.
type Access struct {
	Tokens   Tokens
	Verifier *Verifier
	Hook     *Hook // nil: none
	Tickets  Tickets
	Rules    event.Rules
	Origins  Origins

	cache tokenCache
	setup setup
}

// IdentifyStream is Identify for what a browser cannot send headers with: a
// ticket in the URL is taken too. Done is to be called when the stream has ended.
func (a *Access) IdentifyStream(r *http.Request) (id *Identity, done func(), err error) {
	if secret := r.URL.Query().Get("ticket"); secret != "" && r.Header.Get("Authorization") == "" {
		return a.Tickets.Open(secret)
	}
	id, err = a.Identify(r)
	return id, func() {}, err
}

// Identify returns whose request it is: by Authorization, the console's cookie
// from our own pages, or the application's cookie where there is a hook.
// Without any it is anonymous. A credential that is wrong is an *AuthError,
// never anonymous, but for a cookie: every visitor of the application has some.
func (a *Access) Identify(r *http.Request) (*Identity, error) {
	if r.Header.Get("Authorization") != "" {
		return a.byAuthorization(r)
	}
	if cookie := consoleCookie(r); cookie != "" && a.Origins.fromOurPages(r) {
		id, err := a.byAPIToken(r.Context(), cookie)
		// Cookies know no ports: it may be another server's on this host, and
		// must not keep the application's own from being looked at.
		if _, refused := errors.AsType[*AuthError](err); !refused || a.Hook == nil {
			return id, err
		}
	}
	c := credentialsOf(r)
	if c.cookie == "" || !a.hookDecides(r) {
		return &Identity{}, nil
	}
	id, err := a.Hook.identify(r.Context(), c)
	if _, refused := errors.AsType[*AuthError](err); refused {
		return &Identity{}, nil
	}
	return id, err
}

// MayRead reports whether id may read all topics of p.
func (a *Access) MayRead(id *Identity, p event.Pattern) bool {
	return id.MayRead(p) || a.Rules.Public(p)
}

// byAuthorization takes API tokens, subscriber tokens, and what the hook knows.
func (a *Access) byAuthorization(r *http.Request) (id *Identity, err error) {
	header := r.Header.Get("Authorization")
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		err = refuse("token-invalid", "Authorization has another scheme than Bearer; send: Bearer, a space and the token")
	case strings.HasPrefix(token, tokenPrefix):
		return a.byAPIToken(r.Context(), token)
	default:
		id, err = a.Verifier.Verify(r.Context(), token)
	}
	refused, ok := errors.AsType[*AuthError](err)
	if !ok || refused.code != "token-invalid" || holdsAPIToken(header) || !a.hookDecides(r) {
		return id, err
	}
	return a.Hook.identify(r.Context(), credentialsOf(r))
}

// holdsAPIToken finds our own tokens behind a scheme that is wrong or missing:
// they are not the application's to know.
func holdsAPIToken(header string) bool {
	return slices.ContainsFunc(strings.Fields(header), func(field string) bool { return strings.HasPrefix(field, tokenPrefix) })
}

// hookDecides reports whether there is a hook to ask about r. About the
// requests of foreign pages it is not: the browser adds the user's cookies and
// Basic password to those, too.
func (a *Access) hookDecides(r *http.Request) bool {
	return a.Hook != nil && a.Origins.CheckStream(r) == nil
}

func (a *Access) byAPIToken(ctx context.Context, secret string) (*Identity, error) {
	t, err := a.cache.find(ctx, a.Tokens, sha256.Sum256([]byte(secret)))
	if errors.Is(err, ErrNoToken) {
		return nil, refuse("token-invalid", "the API token is unknown here; make one with: chappe token api")
	}
	if err != nil {
		return nil, err
	}
	if !t.Expires.IsZero() && time.Now().After(t.Expires) {
		return nil, refuse("token-expired", "the API token expired at %s", t.Expires.UTC().Format(time.RFC3339))
	}
	return &Identity{Name: t.Name, Expires: t.Expires, scopes: t.Scopes, patterns: t.Patterns, program: true}, nil
}

// tokenCache saves a query a request. What it holds is at most 2 s old, so a
// removed token is refused soon.
type tokenCache struct {
	mu      sync.Mutex
	entries map[[sha256.Size]byte]cachedToken
}

type cachedToken struct {
	token Token
	at    time.Time
}

const (
	tokenCacheAge  = 2 * time.Second
	maxTokenCached = 1024 // then it begins anew
)

func (c *tokenCache) find(ctx context.Context, tokens Tokens, hash [sha256.Size]byte) (Token, error) {
	c.mu.Lock()
	entry, ok := c.entries[hash]
	c.mu.Unlock()
	if ok && time.Since(entry.at) < tokenCacheAge {
		return entry.token, nil
	}
	t, err := tokens.TokenByHash(ctx, hash)
	if err != nil {
		return Token{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil || len(c.entries) >= maxTokenCached {
		c.entries = map[[sha256.Size]byte]cachedToken{}
	}
	c.entries[hash] = cachedToken{t, time.Now()}
	return t, nil
}

func (c *tokenCache) drop(hash [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, hash)
}

// setup is the one-time token that serve prints.
type setup struct {
	mu   sync.Mutex
	hash [sha256.Size]byte
	open bool
}

// NewSetupToken makes the one-time token that opens the console.
func (a *Access) NewSetupToken() string {
	secret := randomText(18)
	a.setup.mu.Lock()
	defer a.setup.mu.Unlock()
	a.setup.hash, a.setup.open = sha256.Sum256([]byte(secret)), true
	return secret
}

// LogIn takes the one-time token and gives a cookie in its place, or an
// *AuthError. The cookie is an API token that reads, for 12 hours.
func (a *Access) LogIn(ctx context.Context, r *http.Request, secret string) (*http.Cookie, error) {
	hash := sha256.Sum256([]byte(strings.TrimSpace(secret)))
	a.setup.mu.Lock()
	valid := a.setup.open && subtle.ConstantTimeCompare(hash[:], a.setup.hash[:]) == 1
	if valid {
		a.setup.open = false
	}
	a.setup.mu.Unlock()
	if !valid {
		return nil, refuse("setup-token-invalid", "This is not the token that the terminal shows, or it was used before. Each start of the server prints a new one.")
	}
	now := time.Now()
	t := Token{Name: "console", Scopes: []Scope{ScopeRead}, Created: now, Expires: now.Add(consoleTTL)}
	value := t.NewSecret()
	if err := a.Tokens.AddToken(ctx, t); err != nil {
		return nil, err
	}
	c := &http.Cookie{Name: plainCookie, Value: value, Path: "/", MaxAge: int(consoleTTL.Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if a.Origins.secure(r) {
		c.Name, c.Secure = secureCookie, true
	}
	return c, nil
}

// LogOut ends the console's session and returns cookies that clear its own.
func (a *Access) LogOut(ctx context.Context, r *http.Request) ([]*http.Cookie, error) {
	if cookie := consoleCookie(r); cookie != "" {
		hash := sha256.Sum256([]byte(cookie))
		if err := a.Tokens.RemoveToken(ctx, hash); err != nil {
			return nil, err
		}
		a.cache.drop(hash)
	}
	return []*http.Cookie{
		{Name: plainCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode},
		{Name: secureCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: true},
	}, nil
}

// LoggedIn reports whether the page's own request carries a console cookie
// that holds.
func (a *Access) LoggedIn(r *http.Request) bool {
	cookie := consoleCookie(r)
	if cookie == "" {
		return false
	}
	_, err := a.byAPIToken(r.Context(), cookie)
	return err == nil
}

func consoleCookie(r *http.Request) string {
	for _, name := range []string{secureCookie, plainCookie} {
		if c, err := r.Cookie(name); err == nil {
			return c.Value
		}
	}
	return ""
}
