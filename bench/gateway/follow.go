package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// followTarget is what changes.
const followTarget = "/e?g=1"

// followOrder is to wait for changes of followTarget, and for the route's events.
type followOrder struct {
	Address string
	Token   string
}

// followed is what a client tells at once: "ready", "waiter", "stream" or "failed".
type followed struct {
	What string
	Text string // the waiter's ETag; why it failed
	At   time.Time
}

// follow tells of each change that it sees, until it is killed.
func follow(ctx context.Context, in *json.Decoder, tell *json.Encoder) error {
	var o followOrder
	if err := in.Decode(&o); err != nil {
		return err
	}
	seen := make(chan followed) // both write to one encoder
	failed := func(what string, err error) {
		seen <- followed{"failed", fmt.Sprintf("%s: %v", what, err), time.Now()}
	}
	go func() { failed("waiter", o.wait(ctx, seen)) }() // both until the process ends
	go func() { failed("stream", o.stream(ctx, seen)) }()
	for f := range seen {
		if err := tell.Encode(f); err != nil || f.What == "failed" {
			return err
		}
	}
	return nil
}

// wait asks again as soon as it is answered, for what is newer than the answer.
func (o followOrder) wait(ctx context.Context, seen chan<- followed) error {
	c, err := dial(ctx, o.Address)
	if err != nil {
		return err
	}
	defer c.Close()
	a, err := c.getDocument(followTarget)
	if err != nil {
		return err
	}
	seen <- followed{"ready", "", time.Now()}
	for {
		asked, known := time.Now(), a.etag
		if a, err = c.get(followTarget, "If-None-Match: "+known+"\r\nPrefer: wait=30\r\n"); err != nil {
			return err
		}
		now := time.Now()
		switch {
		case a.last:
			return errors.New("the server closes the connection")
		case a.status == http.StatusNotModified && now.Sub(asked) > 20*time.Second:
			a.etag = known // nothing happened
		case a.status != http.StatusOK || a.etag == known:
			return fmt.Errorf("answered %d %s after %v, not a change of %s", a.status, a.etag, now.Sub(asked), known)
		default:
			seen <- followed{"waiter", a.etag, now}
		}
	}
}

// stream reads the route's topic by SSE.
func (o followOrder) stream(ctx context.Context, seen chan<- followed) error {
	c, err := dial(ctx, o.Address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.send("/v1/stream?topic=out/bench", "Accept: text/event-stream\r\nAuthorization: Bearer "+o.Token+"\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil) // which ends with the connection
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	if err := c.SetDeadline(time.Time{}); err != nil { // heartbeats are further apart than answers
		return err
	}
	seen <- followed{"ready", "", time.Now()}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for control := false; lines.Scan(); {
		switch line := lines.Text(); {
		case line == "":
			control = false
		case strings.HasPrefix(line, "event:"):
			control = strings.TrimSpace(line[len("event:"):]) == "control"
		case strings.HasPrefix(line, "data:") && !control:
			seen <- followed{"stream", "", time.Now()}
		}
	}
	return cmp.Or(lines.Err(), io.EOF)
}
