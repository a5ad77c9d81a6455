package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"
)

const (
	healthTimeout   = 5 * time.Second
	healthBodyLimit = 64 << 10 // more is not read, which costs the connection
	failuresToDown  = 2
)

// health is what the health path says. It is guarded by Origins.mu.
type health struct {
	path     string
	every    time.Duration
	failures int // in a row
	down     bool
}

// Run asks the health paths, and returns when ctx ends.
func (o *Origins) Run(ctx context.Context) {
	var watches sync.WaitGroup
	defer watches.Wait()
	for ctx.Err() == nil {
		for _, origin := range o.unwatched() {
			watches.Go(func() { o.watch(ctx, origin) })
		}
		select {
		case <-ctx.Done():
		case <-o.added:
		}
	}
}

func (o *Origins) unwatched() []*origin {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []*origin
	for _, origin := range o.byURL {
		if origin.health.path != "" && !origin.watched {
			origin.watched = true
			found = append(found, origin)
		}
	}
	return found
}

func (o *Origins) watch(ctx context.Context, origin *origin) {
	for {
		o.mu.Lock()
		path, every := origin.health.path, origin.health.every
		o.mu.Unlock()
		err := origin.ask(ctx, path)
		if ctx.Err() == nil {
			o.noteHealth(origin, err)
		}
		select {
		case <-ctx.Done():
			o.mu.Lock()
			origin.watched = false
			o.mu.Unlock()
			return
		case <-time.After(every):
		}
	}
}

// ask takes no place: an origin that is busy is not down.
func (o *origin) ask(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, dialTime{}, healthTimeout), healthTimeout)
	defer cancel()
	target, err := url.Parse(o.scheme + "://" + o.host + path)
	if err != nil {
		return err
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { begin(info.Conn, http.MethodGet) }})
	request := &http.Request{Method: http.MethodGet, URL: target, Header: http.Header{"User-Agent": {"chappe-health"}}}
	answer, err := o.transport.RoundTrip(request.WithContext(ctx))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, healthBodyLimit) // the status has said it all
	if answer.StatusCode < 200 || answer.StatusCode >= 400 {
		return fmt.Errorf("%s answered %d", target.Path, answer.StatusCode)
	}
	return nil
}

// noteHealth takes an origin down at the second failure in a row, and up at the
// first answer.
func (o *Origins) noteHealth(origin *origin, err error) {
	o.mu.Lock()
	h := &origin.health
	was := h.down
	if err == nil {
		h.failures, h.down = 0, false
	} else {
		h.failures++
		h.down = h.failures >= failuresToDown
		origin.lastError = "health: " + withoutURL(err).Error()
	}
	changed := h.down != was
	if changed {
		origin.since = time.Now()
	}
	o.mu.Unlock()
	switch {
	case changed && err != nil:
		o.logger.Warn("origin down", "origin", origin.name, "err", err)
	case changed:
		o.logger.Info("origin up", "origin", origin.name)
	}
}
