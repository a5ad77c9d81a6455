package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/internal/backoff"
	"github.com/chappe/chappe/internal/problem"
	"github.com/chappe/chappe/internal/terminal"
)

// silence is how long tail waits for a sign of life.
const silence = 100 * time.Second

// tail follows the log and, when the server goes away, waits for it to come
// back and goes on where it was.
func tail(ctx context.Context, p program, args []string) error {
	f := newClientFlags(p, "tail")
	after := f.String("after", "", "begin after this cursor, or with start at the oldest kept (default: from now)")
	asJSON := f.Bool("json", false, "print each event as a line of JSON")
	patterns, err := f.parse(args, 1, 64)
	if err != nil {
		return err
	}
	c, err := f.client(ctx, p, account.ScopeRead)
	if err != nil {
		return err
	}
	defer c.close()
	t := &tailing{client: c, patterns: patterns, cursor: *after, print: newPrinter(p, *asJSON), notice: p.stderr}
	return t.run(ctx)
}

type tailing struct {
	*client
	patterns []string
	cursor   string
	print    func(event []byte) error
	notice   io.Writer
	joined   bool // some connection was made
}

func (t *tailing) run(ctx context.Context) error {
	waits := backoff.Backoff{First: time.Second, Most: 15 * time.Second}
	for {
		err := t.follow(ctx, waits.Reset)
		if _, refused := errors.AsType[*problem.Problem](err); ctx.Err() != nil {
			return nil // the user has ended it
		} else if refused || !t.joined {
			return err
		}
		wait := waits.Next()
		fmt.Fprintf(t.notice, "the connection ended (%v), trying again in %v\n", err, wait.Round(100*time.Millisecond))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// follow reads one stream to its end.
func (t *tailing) follow(ctx context.Context, connected func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	query := url.Values{"topic": t.patterns}
	if t.cursor != "" {
		query.Set("after", t.cursor)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.server+"/v1/stream?"+query.Encode(), nil)
	if err != nil {
		return usageError{err.Error()}
	}
	resp, err := t.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	alive := time.AfterFunc(silence, cancel)
	defer alive.Stop()
	return readStream(resp.Body, func(m message) error {
		alive.Reset(silence)
		if m.id != "" {
			t.cursor = m.id
		}
		if m.name == "control" {
			return t.control(m.data, connected)
		}
		return t.print([]byte(m.data))
	})
}

func (t *tailing) control(data string, connected func()) error {
	var c struct{ Control, Code string }
	if err := json.Unmarshal([]byte(data), &c); err != nil {
		return err
	}
	switch c.Control {
	case "hello":
		t.joined = true
		connected()
	case "reset":
		fmt.Fprintln(t.notice, "some events are no longer kept; these are from now on")
	case "error":
		return errors.New(c.Code)
	}
	return nil
}

// message is one of a Server-Sent Events stream (WHATWG HTML §9.2.6).
type message struct{ id, name, data string }

// readStream calls handle for each message until the stream ends.
func readStream(r io.Reader, handle func(message) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	var m message
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			m.id = value
		case "event":
			m.name = value
		case "data":
			m.data += value
		case "":
			if lines.Text() != "" || m.data == "" {
				continue // a comment, or nothing yet
			}
			if err := handle(m); err != nil {
				return err
			}
			m = message{}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// newPrinter prints events: as they are, or a line for people, which on a
// terminal has colour.
func newPrinter(p program, asJSON bool) func([]byte) error {
	if asJSON {
		return func(e []byte) error {
			_, err := fmt.Fprintf(p.stdout, "%s\n", e)
			return err
		}
	}
	dim, bold, plain := "", "", ""
	if terminal.Is(p.stdout) && p.getenv("NO_COLOR") == "" {
		dim, bold, plain = "\x1b[2m", "\x1b[1m", "\x1b[0m"
	}
	return func(b []byte) error {
		var e struct {
			Time                 time.Time
			Topic, Type, Subject string
			Data                 json.RawMessage
		}
		if err := json.Unmarshal(b, &e); err != nil {
			return err
		}
		what := e.Subject
		if what == "" {
			what = string(e.Data)
		}
		_, err := fmt.Fprintf(p.stdout, "%s%s%s  %s%s%s  %s  %s\n", dim, e.Time.Local().Format(time.TimeOnly), plain,
			bold, terminal.Printable(e.Topic), plain, terminal.Printable(e.Type), terminal.Printable(what))
		return err
	}
}
