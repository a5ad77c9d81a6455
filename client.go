package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"encoding/json"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/internal/listen"
	"github.com/chappe/chappe/internal/problem"
	"github.com/chappe/chappe/store"
)

// localTokenTTL is how long a token lives that a command makes for itself,
// should it not come to remove it.
const localTokenTTL = 24 * time.Hour

// client speaks to a server, for publish and tail.
type client struct {
	server, token string
	http          *http.Client
	close         func()
}

// clientFlags are the options of the commands that speak to a server.
type clientFlags struct {
	*flags
	server, token *string
}

func newClientFlags(p program, name string) clientFlags {
	f := newFlags(p, name)
	return clientFlags{f,
		f.String("server", "", "the server's address (default: the one that runs on the data folder)"),
		f.String("token", "", "the token (default: CHAPPE_TOKEN, or one made from the data folder)"),
	}
}

// client finds the server and a token with the scope.
func (f clientFlags) client(ctx context.Context, p program, scope account.Scope) (*client, error) {
	c := &client{server: *f.server, token: *f.token, close: func() {}}
	s, err := f.load()
	if err != nil {
		return nil, err
	}
	ours := c.server == ""
	if ours {
		c.server = store.ServerAddress(s.Data)
	}
	if c.server == "" {
		c.server = s.Server.Listen
		if !strings.HasPrefix(c.server, listen.UnixPrefix) {
			c.server = s.scheme() + c.server
		}
	}
	if c.server, c.http, err = s.dial(c.server, ours); err != nil {
		return nil, err
	}
	if c.token == "" {
		c.token = p.getenv("CHAPPE_TOKEN")
	}
	if c.token == "" {
		return c, c.makeToken(ctx, s.Data, scope)
	}
	return c, nil
}

// makeToken makes a token in the data folder and removes it at the end.
func (c *client) makeToken(ctx context.Context, dir string, scope account.Scope) error {
	if _, err := os.Stat(filepath.Join(dir, "chappe.db")); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no data folder %s to make a token from; name the server's with --data, or give --token or CHAPPE_TOKEN", dir)
	}
	db, err := store.Open(ctx, dir)
	if err != nil {
		return err
	}
	now := time.Now()
	t := account.Token{Name: "local", Scopes: []account.Scope{scope}, Created: now, Expires: now.Add(localTokenTTL)}
	c.token = t.NewSecret()
	if err := db.AddToken(ctx, t); err != nil {
		return errors.Join(err, db.Close())
	}
	c.close = func() {
		_ = db.RemoveToken(context.WithoutCancel(ctx), t.Hash) // else it expires
		_ = db.Close()
	}
	return nil
}

// do sends a request. What is not a success is an error with the server's words.
func (c *client) do(req *http.Request) (*http.Response, error) {
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if _, refused := errors.AsType[*net.OpError](err); refused {
		return nil, fmt.Errorf("no server answers at %s; start one with chappe serve, or name it with --server: %w", c.server, err)
	}
	if err != nil || resp.StatusCode == http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	p := &problem.Problem{}
	if json.Unmarshal(body, p) != nil || p.Code == "" {
		return nil, fmt.Errorf("%s answered %s, which is no answer of chappe", c.server, resp.Status)
	}
	return nil, p
}
