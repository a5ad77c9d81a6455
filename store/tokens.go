package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
)

var _ account.Tokens = (*DB)(nil)

// AddToken implements account.Tokens. Tokens that have expired make room.
func (db *DB) AddToken(ctx context.Context, t account.Token) error {
	if _, err := db.writer.ExecContext(ctx, `DELETE FROM tokens WHERE expires > 0 AND expires < $1`, time.Now().UnixMilli()); err != nil {
		return fmt.Errorf("clear expired tokens: %w", err)
	}
	_, err := db.writer.ExecContext(ctx,
		`INSERT INTO tokens (hash, name, scopes, patterns, created, expires) VALUES ($1, $2, $3, $4, $5, $6)`,
		t.Hash[:], t.Name, join(t.Scopes), join(t.Patterns), t.Created.UnixMilli(), unixOrZero(t.Expires))
	if err != nil {
		return fmt.Errorf("add token %s: %w", t.Name, err)
	}
	return nil
}

// TokenByHash implements account.Tokens.
func (db *DB) TokenByHash(ctx context.Context, hash [sha256.Size]byte) (account.Token, error) {
	t := account.Token{Hash: hash}
	var scopes, patterns string
	var created, expires int64
	err := db.reader.QueryRowContext(ctx, `SELECT name, scopes, patterns, created, expires FROM tokens WHERE hash = $1`, hash[:]).
		Scan(&t.Name, &scopes, &patterns, &created, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return account.Token{}, account.ErrNoToken
	}
	if err != nil {
		return account.Token{}, fmt.Errorf("look for a token: %w", err)
	}
	t.Scopes, t.Patterns = split[account.Scope](scopes), split[event.Pattern](patterns)
	t.Created = time.UnixMilli(created)
	if expires != 0 {
		t.Expires = time.UnixMilli(expires)
	}
	return t, nil
}

// RemoveToken implements account.Tokens.
func (db *DB) RemoveToken(ctx context.Context, hash [sha256.Size]byte) error {
	if _, err := db.writer.ExecContext(ctx, `DELETE FROM tokens WHERE hash = $1`, hash[:]); err != nil {
		return fmt.Errorf("remove token: %w", err)
	}
	return nil
}

// State is the checkpoint of a watch, nil before its first one.
func (db *DB) State(ctx context.Context, watch string) ([]byte, error) {
	var state []byte
	err := db.reader.QueryRowContext(ctx, `SELECT state FROM checkpoints WHERE watch = $1`, watch).Scan(&state)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read the checkpoint of %s: %w", watch, err)
	}
	return state, nil
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// join and split keep lists of words that hold no space.
func join[T ~string](words []T) string {
	s := make([]string, len(words))
	for i, w := range words {
		s[i] = string(w)
	}
	return strings.Join(s, " ")
}

func split[T ~string](s string) []T {
	var words []T
	for _, w := range strings.Fields(s) {
		words = append(words, T(w))
	}
	return words
}
