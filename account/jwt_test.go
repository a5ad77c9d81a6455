package account_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
)

const secret = "0123456789abcdef0123456789abcdef"

type claims = map[string]any

// good are claims that are accepted, with some changed; nil takes one away.
func good(changes claims) claims {
	c := claims{"sub": "alice", "topics": []string{"mail/alice/**"}, "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range changes {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

func sign(t *testing.T, algorithm jose.SignatureAlgorithm, key any, kid string, c claims) string {
	t.Helper()
	options := &jose.SignerOptions{}
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func newVerifier(t *testing.T, c account.JWTConfig) *account.Verifier {
	t.Helper()
	v, err := account.NewVerifier(c, secret, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestClaims(t *testing.T) {
	now := time.Now()
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	strict := account.JWTConfig{Audience: "push", Issuer: "app"}
	named := claims{"aud": "push", "iss": "app"}
	cases := map[string]struct {
		config account.JWTConfig
		claims claims
		code   string
	}{
		"good":                {account.JWTConfig{}, good(nil), ""},
		"aud and iss":         {strict, good(named), ""},
		"aud among others":    {strict, good(claims{"aud": []string{"x", "push"}, "iss": "app"}), ""},
		"no aud":              {strict, good(claims{"iss": "app"}), "token-invalid"},
		"wrong aud":           {strict, good(claims{"aud": "pushy", "iss": "app"}), "token-invalid"},
		"no iss":              {strict, good(claims{"aud": "push"}), "token-invalid"},
		"wrong iss":           {strict, good(claims{"aud": "push", "iss": "App"}), "token-invalid"},
		"expired":             {account.JWTConfig{}, good(claims{"exp": in(-time.Minute)}), "token-expired"},
		"within the leeway":   {account.JWTConfig{}, good(claims{"exp": in(-15 * time.Second)}), ""},
		"no exp":              {account.JWTConfig{}, good(claims{"exp": nil}), "token-invalid"},
		"exp 0":               {account.JWTConfig{}, good(claims{"exp": 0}), "token-expired"},
		"exp in words":        {account.JWTConfig{}, good(claims{"exp": "tomorrow"}), "token-invalid"},
		"exp a day ahead":     {account.JWTConfig{}, good(claims{"exp": in(24 * time.Hour)}), ""},
		"exp too far ahead":   {account.JWTConfig{}, good(claims{"exp": in(25 * time.Hour)}), "token-invalid"},
		"exp at no time":      {account.JWTConfig{}, good(claims{"exp": int64(1) << 62}), "token-invalid"},
		"exp by max_age":      {account.JWTConfig{MaxAge: 48 * time.Hour}, good(claims{"exp": in(47 * time.Hour)}), ""},
		"exp beyond max_age":  {account.JWTConfig{MaxAge: time.Minute}, good(claims{"exp": in(time.Hour)}), "token-invalid"},
		"nbf ahead":           {account.JWTConfig{}, good(claims{"nbf": in(time.Minute)}), "token-invalid"},
		"nbf in the leeway":   {account.JWTConfig{}, good(claims{"nbf": in(15 * time.Second)}), ""},
		"iat ahead":           {account.JWTConfig{}, good(claims{"iat": in(time.Minute)}), "token-invalid"},
		"no sub":              {account.JWTConfig{}, good(claims{"sub": nil}), "token-invalid"},
		"sub a number":        {account.JWTConfig{}, good(claims{"sub": 7}), "token-invalid"},
		"channels":            {account.JWTConfig{}, good(claims{"topics": nil, "channels": []string{"mail/alice/**"}}), ""},
		"bad topics":          {account.JWTConfig{}, good(claims{"topics": []string{"mail/**/x"}}), "token-invalid"},
		"bad channels":        {account.JWTConfig{}, good(claims{"channels": []string{"a b"}}), "token-invalid"},
		"topics are one text": {account.JWTConfig{}, good(claims{"topics": "mail/alice/**"}), "token-invalid"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			id, err := newVerifier(t, c.config).Verify(t.Context(), sign(t, jose.HS256, []byte(secret), "", c.claims))
			if got := code(t, err); got != c.code {
				t.Fatalf("Verify() = %v, want the code %q", err, c.code)
			}
			if err == nil && (id.User != "alice" || id.Name != "alice" || !id.Known() || !id.MayRead("mail/alice/inbox") || id.MayRead("mail/bob/inbox") ||
				id.MayRead("mail/**") || id.May(account.ScopeRead) || id.MayPublish("mail/alice/inbox")) {
				t.Errorf("Verify() = %+v, want alice, who reads hers alone", id)
			}
		})
	}
}

type keyPair struct {
	algorithm jose.SignatureAlgorithm
	private   crypto.Signer
}

func keyPairs(t *testing.T) map[string]keyPair {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]keyPair{"RS256": {jose.RS256, r}, "ES256": {jose.ES256, e}, "EdDSA": {jose.EdDSA, ed}}
}

func publicPEM(t *testing.T, k crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPublicKeys(t *testing.T) {
	pairs := keyPairs(t)
	for name, pair := range pairs {
		text := publicPEM(t, pair.private)
		v := newVerifier(t, account.JWTConfig{PublicKeyFile: write(t, string(text))})
		if _, err := v.Verify(t.Context(), sign(t, pair.algorithm, pair.private, "any", good(nil))); err != nil {
			t.Errorf("%s: Verify() = %v", name, err)
		}
		bad := map[string]string{
			"HS256 with the PEM as its secret": sign(t, jose.HS256, text, "", good(nil)),
			"HS256 with the DER as its secret": sign(t, jose.HS256, der(text), "", good(nil)),
		}
		for other, p := range pairs {
			if other != name {
				bad["signed by "+other] = sign(t, p.algorithm, p.private, "", good(nil))
			}
		}
		if name == "RS256" {
			bad["RS512"] = sign(t, jose.RS512, pair.private, "", good(nil))
			bad["PS256"] = sign(t, jose.PS256, pair.private, "", good(nil))
		}
		for what, token := range bad {
			if _, err := v.Verify(t.Context(), token); code(t, err) != "token-invalid" {
				t.Errorf("%s: %s: Verify() = %v, want token-invalid", name, what, err)
			}
		}
		if _, err := v.Sign("alice", nil, time.Hour); err == nil {
			t.Errorf("%s: Sign() made a token without the private key", name)
		}
	}
}

func der(text []byte) []byte {
	block, _ := pem.Decode(text)
	return block.Bytes
}

func TestForgedTokens(t *testing.T) {
	encode := base64.RawURLEncoding.EncodeToString
	body, err := json.Marshal(good(nil))
	if err != nil {
		t.Fatal(err)
	}
	valid := sign(t, jose.HS256, []byte(secret), "", good(nil))
	parts := strings.Split(valid, ".")
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	embedding, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: own}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := jwt.Signed(embedding).Claims(good(nil)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		"empty":             "",
		"alg none":          encode([]byte(`{"alg":"none"}`)) + "." + encode(body) + ".",
		"alg none, signed":  encode([]byte(`{"alg":"none"}`)) + "." + encode(body) + "." + parts[2],
		"alg nOnE":          encode([]byte(`{"alg":"nOnE"}`)) + "." + encode(body) + ".",
		"no alg":            encode([]byte(`{}`)) + "." + encode(body) + "." + parts[2],
		"no signature":      parts[0] + "." + parts[1] + ".",
		"other claims":      parts[0] + "." + encode(body[:len(body)-1]) + encode([]byte(`,"a":1}`)) + "." + parts[2],
		"wrong key":         sign(t, jose.HS256, []byte("another secret, which is as long"), "", good(nil)),
		"HS512":             sign(t, jose.HS512, []byte(secret+secret), "", good(nil)),
		"its own key":       embedded,
		"dots":              strings.Repeat(".", 8000),
		"dots in a million": strings.Repeat(".", 1<<20),
		"too long":          valid + strings.Repeat("A", 8<<10),
		"JSON":              `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`,
	}
	v := newVerifier(t, account.JWTConfig{})
	for name, token := range cases {
		if id, err := v.Verify(t.Context(), token); code(t, err) != "token-invalid" {
			t.Errorf("%s: Verify() = %+v, %v, want token-invalid", name, id, err)
		}
	}
	long := sign(t, jose.HS256, []byte(secret), "", good(claims{"x": strings.Repeat("x", 8<<10)}))
	if _, err := v.Verify(t.Context(), long); code(t, err) != "token-invalid" || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("a signed token of %d bytes: %v, want it refused for its length", len(long), err)
	}
}

func TestSecretFile(t *testing.T) {
	for name, text := range map[string]string{"plain": secret, "newline": secret + "\n", "CR LF": secret + "\r\n"} {
		v := newVerifier(t, account.JWTConfig{HS256SecretFile: write(t, text)})
		if _, err := v.Verify(t.Context(), sign(t, jose.HS256, []byte(secret), "", good(nil))); err != nil {
			t.Errorf("%s: Verify() = %v", name, err)
		}
	}
	weak, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]account.JWTConfig{
		"short secret":   {HS256SecretFile: write(t, secret[1:]+"\n")},
		"missing secret": {HS256SecretFile: filepath.Join(t.TempDir(), "none")},
		"missing key":    {PublicKeyFile: filepath.Join(t.TempDir(), "none")},
		"no PEM":         {PublicKeyFile: write(t, secret)},
		"P-384 key":      {PublicKeyFile: write(t, string(publicPEM(t, weak)))},
	} {
		if _, err := account.NewVerifier(config, secret, nil); err == nil || !strings.Contains(err.Error(), "access.jwt.") {
			t.Errorf("%s: NewVerifier() = %v, want an error with the configuration key", name, err)
		}
	}
}

func TestSign(t *testing.T) {
	v := newVerifier(t, account.JWTConfig{Audience: "push", Issuer: "app"})
	token, err := v.Sign("alice", []event.Pattern{"mail/alice/**"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	id, err := v.Verify(t.Context(), token)
	if err != nil || id.User != "alice" || !id.MayRead("mail/alice/inbox") || time.Until(id.Expires) > time.Hour {
		t.Errorf("Verify(Sign(alice)) = %+v, %v", id, err)
	}
	for _, ttl := range []time.Duration{0, -time.Hour, 25 * time.Hour} {
		if _, err := v.Sign("alice", nil, ttl); err == nil {
			t.Errorf("Sign() made a token for %v", ttl)
		}
	}
}

// publisher is where an application publishes its keys.
type publisher struct {
	keys  []jose.JSONWebKey
	asked atomic.Int32
	fails bool
}

func (p *publisher) RoundTrip(*http.Request) (*http.Response, error) {
	p.asked.Add(1)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, nil)
	return w.Result(), nil
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if p.fails {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: p.keys})
}

func TestKeySet(t *testing.T) {
	pairs := keyPairs(t)
	p := &publisher{}
	for name, pair := range pairs {
		p.keys = append(p.keys, jose.JSONWebKey{Key: pair.private.Public(), KeyID: name, Use: "sig"})
	}
	p.keys = append(p.keys, jose.JSONWebKey{Key: []byte(secret), KeyID: "symmetric"}) // must not be taken
	server := httptest.NewServer(p)
	defer server.Close()
	v, err := account.NewVerifier(account.JWTConfig{JWKSURL: server.URL}, secret, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range pairs {
		for _, kid := range []string{name, ""} {
			if _, err := v.Verify(t.Context(), sign(t, pair.algorithm, pair.private, kid, good(nil))); err != nil {
				t.Errorf("%s with kid %q: Verify() = %v", name, kid, err)
			}
		}
		for _, kid := range []string{"other", "symmetric"} {
			if _, err := v.Verify(t.Context(), sign(t, pair.algorithm, pair.private, kid, good(nil))); code(t, err) != "token-invalid" {
				t.Errorf("%s with kid %q: Verify() = %v, want token-invalid", name, kid, err)
			}
		}
		if _, err := v.Verify(t.Context(), sign(t, jose.HS256, publicPEM(t, pair.private), name, good(nil))); code(t, err) != "token-invalid" {
			t.Errorf("HS256 with the public %s key: Verify() = %v, want token-invalid", name, err)
		}
	}
	for _, key := range []string{secret, "the fallback is not a key here, long"} {
		if _, err := v.Verify(t.Context(), sign(t, jose.HS256, []byte(key), "symmetric", good(nil))); code(t, err) != "token-invalid" {
			t.Errorf("HS256 with the secret of the set: Verify() = %v, want token-invalid", err)
		}
	}
}

// However many tokens name a key that is unknown, the set is fetched at most
// once a minute for them; a key that was added is found within that time.
func TestKeySetIsFetchedSeldom(t *testing.T) {
	pair := keyPairs(t)["EdDSA"]
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{keys: []jose.JSONWebKey{{Key: pair.private.Public(), KeyID: "first"}}}
		v, err := account.NewVerifier(account.JWTConfig{JWKSURL: "https://app.example/keys"}, "", &http.Client{Transport: p})
		if err != nil {
			t.Fatal(err)
		}
		verify := func(kid string) error {
			_, err := v.Verify(t.Context(), sign(t, pair.algorithm, pair.private, kid, good(nil)))
			return err
		}
		for range 100 {
			if code(t, verify("second")) == "" {
				t.Fatal("a token with an unknown kid was accepted")
			}
		}
		if got := p.asked.Load(); got != 1 {
			t.Errorf("100 unknown kids made %d fetches, want 1", got)
		}
		p.keys = append(p.keys, jose.JSONWebKey{Key: pair.private.Public(), KeyID: "second"})
		time.Sleep(time.Minute)
		if err := verify("second"); err != nil || p.asked.Load() != 2 {
			t.Errorf("a minute later: %v after %d fetches, want it accepted after 2", err, p.asked.Load())
		}
		p.fails = true // what is known stays good
		time.Sleep(11 * time.Minute)
		if err := verify("first"); err != nil || p.asked.Load() != 3 {
			t.Errorf("with the publisher down: %v after %d fetches, want it accepted after 3", err, p.asked.Load())
		}
		p.fails, p.keys = false, p.keys[1:] // a key that is no longer published
		time.Sleep(11 * time.Minute)
		if err := verify("first"); code(t, err) != "token-invalid" {
			t.Errorf("with a withdrawn key: %v, want token-invalid", err)
		}
	})
}

func TestKeySetThatNeverCame(t *testing.T) {
	pair := keyPairs(t)["EdDSA"]
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{fails: true}
		v, err := account.NewVerifier(account.JWTConfig{JWKSURL: "https://app.example/keys"}, "", &http.Client{Transport: p})
		if err != nil {
			t.Fatal(err)
		}
		token := sign(t, pair.algorithm, pair.private, "", good(nil))
		for range 2 {
			if _, err := v.Verify(t.Context(), token); err == nil {
				t.Fatal("Verify() accepted a token without a key")
			}
		}
		p.fails, p.keys = false, []jose.JSONWebKey{{Key: pair.private.Public()}}
		time.Sleep(5 * time.Second)
		if _, err := v.Verify(t.Context(), token); err != nil || p.asked.Load() != 2 {
			t.Errorf("5 s later: %v after %d fetches, want it accepted after 2", err, p.asked.Load())
		}
	})
}
