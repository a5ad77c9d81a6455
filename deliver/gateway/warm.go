package gateway

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/internal/rfc9111"
)

// warmHead begins the file of a warm restart.
type warmHead struct {
	Version int
	Cursor  string // the log's head: events after it were missed
}

const warmVersion = 1

// warmEntry is an entry in the file.
type warmEntry struct {
	Route                     string // with all that is configured
	Secure                    bool
	Host, Target, Extra       string
	Vary                      []string
	Selected, Request, Header http.Header
	Freshness                 rfc9111.Freshness
	Status                    int
	Body                      []byte
	Received                  time.Time
	Tags, Groups              []string
	Used                      int64
}

// save writes what is stored to the file, for the next start.
func (g *Gateway) save(file string) error {
	f, err := os.OpenFile(file+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(f)
	enc := gob.NewEncoder(b)
	err = enc.Encode(warmHead{warmVersion, g.options.Head().String()})
	for r := range g.store.cache.Values() {
		for _, e := range r.variants {
			if err == nil && !e.purged.Load() {
				err = enc.Encode(e.warm(r.vary))
			}
		}
	}
	if err = errors.Join(err, b.Flush(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(file+".new"))
	}
	return os.Rename(file+".new", file)
}

func (e *entry) warm(vary []string) warmEntry {
	k := e.key
	return warmEntry{
		configOf(k.Route), k.Secure, k.Host, k.Target, k.Extra, vary, e.selector.Header(), e.request, e.stored(),
		e.freshness, e.status, e.plain.Body, e.received, e.tags, e.groups, e.used.Load(),
	}
}

// configOf tells whether a route is what it was.
func configOf(rt *route.Route) string { return fmt.Sprintf("%+v", rt.Config) }

// load stores what the file has, and removes it: what would be read of it
// later might be out of date. Where events were missed that could say so, the
// answers are asked about before they are used.
func (g *Gateway) load(file string) (n int, err error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := os.Remove(file); err != nil {
		return 0, err
	}
	dec := gob.NewDecoder(bufio.NewReader(f))
	var head warmHead
	if err := dec.Decode(&head); err != nil || head.Version != warmVersion {
		return 0, errors.Join(err, errors.New("it is not of this version"))
	}
	routes := map[string]*route.Route{}
	for i := range g.places {
		routes[configOf(g.places[i].route)] = g.places[i].route
	}
	for missed := head.Cursor != g.options.Head().String(); ; n++ {
		var w warmEntry
		if err := dec.Decode(&w); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return n, err
		}
		if rt := routes[w.Route]; rt != nil {
			g.restore(rt, &w, missed && len(rt.RefreshOn) > 0)
		}
	}
}

func (g *Gateway) restore(rt *route.Route, w *warmEntry, missed bool) {
	k := route.Key{Route: rt, Secure: w.Secure, Host: w.Host, Target: w.Target, Extra: w.Extra}
	s := rfc9111.NewSelector(w.Vary, route.Sent(w.Selected).Header)
	e := newEntry(k, s, w.Freshness, &answer{w.Status, w.Header, w.Body, w.Received})
	e.freshness = w.Freshness // its jitter is in it
	e.tags, e.groups, e.request = w.Tags, w.Groups, w.Request
	e.used.Store(w.Used)
	e.purged.Store(missed)
	if g.store.get(k).choose(route.Sent(w.Selected)) == nil { // or it was fetched meanwhile
		g.store.put(e, w.Vary)
	}
}
