package account_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/chappe/chappe/account"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory keeps tokens, and counts how often it is asked.
type memory struct {
	mu     sync.Mutex
	tokens map[[sha256.Size]byte]account.Token
	asked  int
}

func (m *memory) AddToken(_ context.Context, t account.Token) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tokens == nil {
		m.tokens = map[[sha256.Size]byte]account.Token{}
	}
	m.tokens[t.Hash] = t
	return nil
}

func (m *memory) TokenByHash(_ context.Context, hash [sha256.Size]byte) (account.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	t, ok := m.tokens[hash]
	if !ok {
		return account.Token{}, account.ErrNoToken
	}
	return t, nil
}

func (m *memory) RemoveToken(_ context.Context, hash [sha256.Size]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tokens, hash)
	return nil
}

// add keeps t and returns its secret.
func (m *memory) add(t *testing.T, token account.Token) string {
	t.Helper()
	secret := token.NewSecret()
	if err := m.AddToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	return secret
}

// code is the stable code of a refusal; "" without one.
func code(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	refused, ok := errors.AsType[*account.AuthError](err)
	if !ok {
		t.Fatalf("%v is no *AuthError", err)
	}
	return refused.Code()
}

func bearer(t *testing.T, token string) *http.Request {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/events", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}
