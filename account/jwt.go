package account

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/chappe/chappe/event"
)

// JWTConfig says how subscriber tokens are checked. At most one of the three
// keys is given; without one, tokens are signed with a secret of the data folder.
type JWTConfig struct {
	// HS256SecretFile holds the secret shared with the application, at least 32 bytes.
	HS256SecretFile string `yaml:"hs256_secret_file" path:"input"`
	// PublicKeyFile holds a PEM public key: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA).
	PublicKeyFile string `yaml:"public_key_file" path:"input"`
	// JWKSURL is where the keys are published as a JSON Web Key Set.
	JWKSURL string `yaml:"jwks_url"`
	// Audience must be among the token's aud, where given.
	Audience string `yaml:"audience"`
	// Issuer must be the token's iss, where given.
	Issuer string `yaml:"issuer"`
	// MaxAge is how far ahead a token's exp may be; 24h when 0.
	MaxAge time.Duration `yaml:"max_age"`
}

// Validate refuses several keys at once.
func (c JWTConfig) Validate() error {
	given := 0
	for _, key := range []string{c.HS256SecretFile, c.PublicKeyFile, c.JWKSURL} {
		if key != "" {
			given++
		}
	}
	if given > 1 {
		return errors.New("hs256_secret_file, public_key_file and jwks_url exclude each other; keep one")
	}
	if c.MaxAge < 0 {
		return errors.New("max_age is negative; give how far ahead a token may expire, like 24h")
	}
	return nil
}

// Bounds of a token and of the keys.
const (
	maxTokenBytes  = 8 << 10
	maxKeySetBytes = 1 << 20
	minSecretBytes = 32 // RFC 7518 §3.2: as long as the hash
	leeway         = 30 * time.Second
	defaultMaxAge  = 24 * time.Hour
	keySetAge      = 10 * time.Minute
	keySetRetry    = time.Minute // between fetches for an unknown key
)

// AuthError says why a credential is refused.
type AuthError struct {
	code   string
	reason string
}

func (e *AuthError) Error() string { return e.reason }

// Code is stable: "token-invalid", "token-expired", "ticket-invalid", ...
func (e *AuthError) Code() string { return e.code }

func refuse(code, format string, args ...any) error {
	return &AuthError{code, fmt.Sprintf(format, args...)}
}

// key is a verification key with the one algorithm it is for.
type key struct {
	id        string
	algorithm jose.SignatureAlgorithm
	value     any
}

// Verifier checks subscriber tokens.
type Verifier struct {
	config JWTConfig
	signer []byte // the HS256 secret, where there is one
	keys   []key
	remote *keySet // where the keys are published
	quick  hs256
}

// NewVerifier reads the configured key, or takes fallback as the HS256 secret.
// The client is for the key set; its address is the operator's word.
func NewVerifier(c JWTConfig, fallback string, client *http.Client) (*Verifier, error) {
	v := &Verifier{config: c}
	if v.config.MaxAge == 0 {
		v.config.MaxAge = defaultMaxAge
	}
	switch {
	case c.HS256SecretFile != "":
		secret, err := os.ReadFile(c.HS256SecretFile)
		if err != nil {
			return nil, fmt.Errorf("access.jwt.hs256_secret_file: %w", err)
		}
		v.signer = []byte(strings.TrimSuffix(strings.TrimSuffix(string(secret), "\n"), "\r"))
		if len(v.signer) < minSecretBytes {
			return nil, fmt.Errorf("access.jwt.hs256_secret_file: %s holds %d bytes, a secret has at least %d; make one with: openssl rand -hex 32", c.HS256SecretFile, len(v.signer), minSecretBytes)
		}
	case c.PublicKeyFile != "":
		k, err := readPublicKey(c.PublicKeyFile)
		if err != nil {
			return nil, fmt.Errorf("access.jwt.public_key_file: %w", err)
		}
		v.keys = []key{k}
	case c.JWKSURL != "":
		v.remote = &keySet{url: c.JWKSURL, client: client}
	default:
		v.signer = []byte(fallback)
	}
	if v.signer != nil {
		v.keys = []key{{algorithm: jose.HS256, value: v.signer}}
	}
	return v, nil
}

func readPublicKey(path string) (key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return key{}, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return key{}, fmt.Errorf("%s is not PEM; it should begin with -----BEGIN PUBLIC KEY-----", path)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return key{}, fmt.Errorf("%s: %w", path, err)
	}
	k, ok := pin(public)
	if !ok {
		return key{}, fmt.Errorf("%s holds a %T; take RSA of 2048 bits or more, P-256 or Ed25519", path, public)
	}
	return k, nil
}

// pin gives a public key the one algorithm that it may be used with.
func pin(public any) (key, bool) {
	switch p := public.(type) {
	case *rsa.PublicKey:
		return key{algorithm: jose.RS256, value: p}, p.N.BitLen() >= 2048
	case *ecdsa.PublicKey:
		return key{algorithm: jose.ES256, value: p}, p.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return key{algorithm: jose.EdDSA, value: p}, true
	}
	return key{}, false
}

// claims are what a subscriber token says (RFC 7519, and our own).
type claims struct {
	jwt.Claims
	Topics   []string `json:"topics"`
	Channels []string `json:"channels"` // Centrifugo's word for topics
}

// Verify checks a subscriber token and returns whose it is, or an *AuthError.
func (v *Verifier) Verify(ctx context.Context, token string) (*Identity, error) {
	if len(token) > maxTokenBytes {
		return nil, refuse("token-invalid", "the token has %d bytes, at most %d are taken", len(token), maxTokenBytes)
	}
	if id := v.Quick(token); id != nil {
		return id, nil
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.HS256, jose.RS256, jose.ES256, jose.EdDSA})
	if err != nil || len(parsed.Headers) != 1 {
		return nil, refuse("token-invalid", "the token is neither an API token (chp_...) nor a JWT signed with HS256, RS256, ES256 or EdDSA")
	}
	header := parsed.Headers[0]
	keys, err := v.keysFor(ctx, header.KeyID)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if string(k.algorithm) != header.Algorithm || k.id != "" && header.KeyID != "" && k.id != header.KeyID {
			continue
		}
		var c claims
		if parsed.Claims(k.value, &c) == nil {
			if v.signer != nil {
				v.quick.learn(token)
			}
			return v.identity(&c)
		}
	}
	return nil, refuse("token-invalid", "the token is not signed with a key that this server accepts (its alg is %q, its kid %q)", header.Algorithm, header.KeyID)
}

// Quick returns whose token it is if that shows without waiting for anybody,
// else nil: then it is for Verify to say.
func (v *Verifier) Quick(token string) *Identity {
	if v.signer == nil || len(token) > maxTokenBytes {
		return nil
	}
	var id *Identity
	v.quick.claims(token, v.signer, func(c *claims) { id, _ = v.identity(c) }) // why not, Verify says
	return id
}

func (v *Verifier) keysFor(ctx context.Context, id string) ([]key, error) {
	if v.remote == nil {
		return v.keys, nil
	}
	return v.remote.find(ctx, id)
}

func (v *Verifier) identity(c *claims) (*Identity, error) {
	now := time.Now()
	if c.Expiry == nil {
		return nil, refuse("token-invalid", "the token has no exp; it must end, at most %v from now", v.config.MaxAge)
	}
	expires := c.Expiry.Time()
	expected := jwt.Expected{Time: now, Issuer: v.config.Issuer}
	if v.config.Audience != "" {
		expected.AnyAudience = jwt.Audience{v.config.Audience}
	}
	switch err := c.ValidateWithLeeway(expected, leeway); {
	case errors.Is(err, jwt.ErrExpired):
		return nil, refuse("token-expired", "the token expired at %s", expires.UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrInvalidAudience):
		return nil, refuse("token-invalid", "the token's aud is not %q", v.config.Audience)
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return nil, refuse("token-invalid", "the token's iss is not %q", v.config.Issuer)
	case err != nil:
		return nil, refuse("token-invalid", "the token is not valid now: its nbf or iat lies ahead")
	case expires.After(now.Add(v.config.MaxAge + leeway)):
		return nil, refuse("token-invalid", "the token's exp is more than %v ahead; access.jwt.max_age raises that", v.config.MaxAge)
	case c.Subject == "":
		return nil, refuse("token-invalid", "the token has no sub; it must say whose it is")
	}
	patterns, err := event.ParsePatterns(append(c.Topics, c.Channels...))
	if err != nil {
		return nil, refuse("token-invalid", "the token's topics: %v", err)
	}
	if expires.Before(now) { // let in by the leeway: it would be cut at once otherwise, and come again
		expires = expires.Add(leeway)
	}
	var channels []event.Pattern
	for _, p := range patterns[len(c.Topics):] {
		if p.Literal() {
			channels = append(channels, p)
		}
	}
	return &Identity{Name: c.Subject, User: c.Subject, Expires: expires, patterns: patterns, channels: channels}, nil
}

// Sign makes a subscriber token, where the key is a secret that we hold.
func (v *Verifier) Sign(subject string, topics []event.Pattern, ttl time.Duration) (string, error) {
	if v.signer == nil {
		return "", errors.New("subscriber tokens are signed by the application: access.jwt names its public key; only with hs256_secret_file, or without access.jwt, can they be made here")
	}
	if ttl <= 0 || ttl > v.config.MaxAge {
		return "", fmt.Errorf("a token for %v would be refused: it lasts more than 0 and at most %v (access.jwt.max_age)", ttl, v.config.MaxAge)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: v.signer}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	now := time.Now()
	c := claims{Claims: jwt.Claims{Subject: subject, Issuer: v.config.Issuer, IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(ttl))}}
	if v.config.Audience != "" {
		c.Audience = jwt.Audience{v.config.Audience}
	}
	for _, p := range topics {
		c.Topics = append(c.Topics, string(p))
	}
	return jwt.Signed(signer).Claims(c).Serialize()
}

// keySet is a JSON Web Key Set that is published (RFC 7517 §5), fetched again
// when it has come of age or a token names a key that it lacks.
type keySet struct {
	url    string
	client *http.Client

	mu      sync.Mutex // held while fetching: all who need the keys wait for one answer
	keys    []key
	fetched time.Time
}

// find returns the keys that may have signed a token with this key id.
func (s *keySet) find(ctx context.Context, id string) ([]key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := time.Since(s.fetched)
	if age < keySetRetry || age < keySetAge && s.has(id) {
		return s.keys, nil
	}
	keys, err := s.fetch(ctx)
	s.fetched = time.Now()
	if err == nil {
		s.keys = keys
	} else if s.keys == nil {
		s.fetched = time.Now().Add(5*time.Second - keySetRetry) // nobody can connect: ask again soon
		return nil, fmt.Errorf("fetch the keys from access.jwt.jwks_url: %w", err)
	}
	return s.keys, nil
}

func (s *keySet) has(id string) bool {
	for _, k := range s.keys {
		if id == "" || k.id == "" || k.id == id {
			return true
		}
	}
	return false
}

func (s *keySet) fetch(ctx context.Context) ([]key, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", s.url, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySetBytes))
	if err != nil {
		return nil, err
	}
	return parseKeySet(body)
}

// parseKeySet takes the public signing keys that we have an algorithm for.
func parseKeySet(body []byte) ([]key, error) {
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("it is not a key set: %w", err)
	}
	var keys []key
	for _, raw := range set.Keys {
		var jwk jose.JSONWebKey
		if jwk.UnmarshalJSON(raw) != nil || jwk.Use != "" && jwk.Use != "sig" {
			continue // of a kind that is not for us
		}
		k, ok := pin(jwk.Key)
		if !ok || jwk.Algorithm != "" && jwk.Algorithm != string(k.algorithm) {
			continue
		}
		k.id = jwk.KeyID
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no RSA, P-256 or Ed25519 signing key")
	}
	return keys, nil
}
