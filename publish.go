package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/chappe/chappe/account"
)

// publishTime bounds one publish.
const publishTime = 30 * time.Second

// publish sends one event. Data that is no JSON is sent as a string.
func publish(ctx context.Context, p program, args []string) error {
	f := newClientFlags(p, "publish")
	kind := f.String("type", "", "the event's type (default message)")
	id := f.String("id", "", "the event's id: publishing it again does nothing (default: a new one)")
	rest, err := f.parse(args, 1, 2)
	if err != nil {
		return err
	}
	e := map[string]any{"topic": rest[0]}
	if len(rest) == 2 {
		if e["data"], err = dataOf(rest[1], p.stdin); err != nil {
			return err
		}
	}
	if *kind != "" {
		e["type"] = *kind
	}
	if *id != "" {
		e["id"] = *id
	}
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	c, err := f.client(ctx, p, account.ScopePublish)
	if err != nil {
		return err
	}
	defer c.close()
	return c.publish(ctx, p.stdout, e)
}

func dataOf(arg string, stdin io.Reader) (json.RawMessage, error) {
	text := []byte(arg)
	if arg == "-" {
		var err error
		if text, err = io.ReadAll(stdin); err != nil {
			return nil, fmt.Errorf("read the data: %w", err)
		}
		text = bytes.TrimRight(text, "\r\n")
	}
	if json.Valid(text) {
		return text, nil
	}
	return json.Marshal(string(text))
}

// publish prints the event's cursor.
func (c *client) publish(ctx context.Context, w io.Writer, e map[string]any) error {
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server+"/v1/events", bytes.NewReader(body))
	if err != nil {
		return usageError{err.Error()}
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Events []struct {
			ID, Cursor string
			Duplicate  bool
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Events) != 1 {
		return fmt.Errorf("%s gave no receipt: %w", c.server, err)
	}
	switch r := answer.Events[0]; {
	case r.Cursor == "":
		_, err = fmt.Fprintln(w, "handed out, not kept: the topic is ephemeral")
	case r.Duplicate:
		_, err = fmt.Fprintln(w, r.Cursor, "duplicate")
	default:
		_, err = fmt.Fprintln(w, r.Cursor)
	}
	return err
}
