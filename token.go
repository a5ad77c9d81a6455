package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
)

// token makes a token, beside a running server or without one.
func token(ctx context.Context, p program, args []string) error {
	kind := ""
	if len(args) > 0 {
		kind = args[0]
	}
	switch kind {
	case "subscriber":
		return subscriberToken(ctx, p, args[1:])
	case "api":
		return apiToken(ctx, p, args[1:])
	}
	return usageError{"say which kind: chappe token subscriber ... or chappe token api ..."}
}

func subscriberToken(ctx context.Context, p program, args []string) error {
	f := newFlags(p, "token")
	subject := f.String("sub", "", "whose it is")
	topics := f.String("topics", "", "patterns that may be read, separated by commas")
	ttl := f.Duration("ttl", time.Hour, "how long it lasts")
	if _, err := f.parse(args, 0, 0); err != nil {
		return err
	}
	if *subject == "" || *topics == "" {
		return usageError{"a subscriber token needs --sub and --topics, as: --sub alice --topics 'mail/alice/**'"}
	}
	patterns, err := event.ParsePatterns(strings.Split(*topics, ","))
	if err != nil {
		return usageError{err.Error()}
	}
	_, verifier, err := f.verifier(ctx)
	if err != nil {
		return err
	}
	signed, err := verifier.Sign(*subject, patterns, *ttl)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, signed)
	return err
}

func apiToken(ctx context.Context, p program, args []string) error {
	f := newFlags(p, "token")
	name := f.String("name", "api", "begins the source of the events published with it")
	scopes := f.String("scopes", "", "some of publish, read, admin, separated by commas")
	topics := f.String("topics", "", "patterns that it is for, separated by commas (default: all)")
	ttl := f.Duration("ttl", 0, "how long it lasts (default: for ever)")
	if _, err := f.parse(args, 0, 0); err != nil {
		return err
	}
	t := account.Token{Name: *name, Created: time.Now()}
	var err error
	if err = account.CheckTokenName(*name); err == nil {
		t.Scopes, err = account.ParseScopes(*scopes)
	}
	if err == nil && *topics != "" {
		t.Patterns, err = event.ParsePatterns(strings.Split(*topics, ","))
	}
	if err != nil {
		return usageError{err.Error()}
	}
	if *ttl > 0 {
		t.Expires = t.Created.Add(*ttl)
	}
	_, db, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	secret := t.NewSecret()
	if err := db.AddToken(ctx, t); err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, secret)
	return err
}

// verifier is what signs subscriber tokens with the configuration that the
// flags name.
func (f *flags) verifier(ctx context.Context) (*settings, *account.Verifier, error) {
	s, db, err := f.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer db.Close()
	v, err := newVerifier(ctx, s, db)
	return s, v, err
}
