package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chappe/chappe/event"
)

// Scope is one thing that an API token may do.
type Scope string

// The scopes. Admin includes the other two.
const (
	ScopePublish Scope = "publish"
	ScopeRead    Scope = "read"
	ScopeAdmin   Scope = "admin"
)

// ParseScopes reads a comma-separated list.
func ParseScopes(s string) ([]Scope, error) {
	var scopes []Scope
	for name := range strings.SplitSeq(s, ",") {
		scope := Scope(strings.TrimSpace(name))
		if !slices.Contains([]Scope{ScopePublish, ScopeRead, ScopeAdmin}, scope) {
			return nil, fmt.Errorf("%q is not a scope; name some of publish, read, admin", scope)
		}
		scopes = append(scopes, scope)
	}
	return scopes, nil
}

// Token is an API token as it is kept: the secret itself is not.
type Token struct {
	Hash     [sha256.Size]byte // of the secret
	Name     string            // begins the source of what is published with it
	Scopes   []Scope
	Patterns []event.Pattern // topics it is for; none means all
	Created  time.Time
	Expires  time.Time // zero: never
}

// tokenPrefix makes our tokens recognisable, to people and to leak scanners.
const tokenPrefix = "chp_"

// NewToken makes a secret of 256 random bits for t and fills in its Hash.
func (t *Token) NewSecret() string {
	secret := tokenPrefix + randomText(32)
	t.Hash = sha256.Sum256([]byte(secret))
	return secret
}

// randomText is n random bytes in URL-safe text.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b)
}

// CheckTokenName refuses names that could not begin a source.
func CheckTokenName(name string) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("the token's name has %d characters; take 1 to 64", len(name))
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("the token's name %q has %q; take a-z, 0-9, - and _", name, c)
		}
	}
	return nil
}

// ErrNoToken says that there is no such token.
var ErrNoToken = errors.New("there is no such token")

// Tokens keeps API tokens.
type Tokens interface {
	// AddToken stores t.
	AddToken(ctx context.Context, t Token) error
	// TokenByHash returns ErrNoToken when there is none.
	TokenByHash(ctx context.Context, hash [sha256.Size]byte) (Token, error)
	// RemoveToken is no error when there is none.
	RemoveToken(ctx context.Context, hash [sha256.Size]byte) error
}
