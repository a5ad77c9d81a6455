// Package console is the web pages: for now one, which shows events as they
// enter the log, and the form that takes the one-time token before it.
//
// Pages are drawn by the server and complete without script; a plain ES module
// keeps them up to date from the same stream that everyone can read. All links
// are relative, so the program can be mounted below an existing site.
package console

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/problem"
)

//go:embed page.html login.html live.html console.css live.js mark.svg
var files embed.FS

// latestShown is how many events the page begins with.
const latestShown = 50

// Log is what the page shows.
type Log interface {
	// Latest is up to n of the newest events, oldest first.
	Latest(n int) []*event.Record
	Head() event.Cursor
}

// Options of the console, all required.
type Options struct {
	Log     Log
	Access  *account.Access
	Logger  *slog.Logger
	Version string
}

// Console serves the pages.
type Console struct {
	Options
	login, live *template.Template
	assets      http.Handler
}

// New parses the pages.
func New(o Options) *Console {
	parse := func(page string) *template.Template {
		return template.Must(template.ParseFS(files, "page.html", page))
	}
	assets := http.FileServerFS(onlyAssets{files})
	return &Console{Options: o, login: parse("login.html"), live: parse("live.html"), assets: assets}
}

// onlyAssets leaves the templates out.
type onlyAssets struct{ fs.FS }

func (a onlyAssets) Open(name string) (fs.File, error) {
	switch name {
	case "console.css", "live.js", "mark.svg":
		return a.FS.Open(name)
	}
	return nil, fs.ErrNotExist
}

// Asset serves the style sheet, the script and the icon.
func (c *Console) Asset(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=600")
	c.assets.ServeHTTP(w, r)
}

// page is what every template gets.
type page struct {
	Title   string
	Version string
	SetUp   string // the token that came with the link
	Error   string
	Topic   event.Pattern
	Cursor  string
	Rows    []row
}

// row is an event on the page.
type row struct {
	At                                 time.Time
	Topic, Type, Title, By, Cursor, ID string
	Data                               string // indented
}

// Live is the page at "/": the events, or the form that asks for the token.
func (c *Console) Live(w http.ResponseWriter, r *http.Request) {
	if !c.Access.LoggedIn(r) {
		c.render(w, http.StatusOK, c.login, page{Title: "Open the console", SetUp: r.URL.Query().Get("setup")})
		return
	}
	p := page{Title: "Live", Topic: "**"}
	if asked := r.URL.Query().Get("topic"); asked != "" {
		pattern, err := event.ParsePattern(asked)
		if err != nil {
			p.Error = err.Error()
		} else {
			p.Topic = pattern
		}
	}
	p.Cursor = c.Log.Head().String() // before the rows: the stream goes on from it
	latest := c.Log.Latest(latestShown)
	for i := len(latest) - 1; i >= 0; i-- {
		if p.Topic.Matches(latest[i].Topic) {
			p.Rows = append(p.Rows, newRow(latest[i]))
		}
	}
	c.render(w, http.StatusOK, c.live, p)
}

func newRow(r *event.Record) row {
	v := row{At: r.Time, Topic: string(r.Topic), Type: r.Type, By: r.Source, Cursor: r.Cursor.String(), ID: r.ID}
	var known struct{ Title, Subject string }
	_ = json.Unmarshal(r.Data, &known) // data of another shape has no title
	for _, title := range []string{known.Title, known.Subject, r.Subject, cutText(string(r.Data), 80), r.Type} {
		if title != "" {
			v.Title = title
			break
		}
	}
	var indented bytes.Buffer
	if json.Indent(&indented, r.JSON, "", "  ") == nil {
		v.Data = indented.String()
	}
	return v
}

func cutText(s string, runes int) string {
	for i := range s {
		if runes--; runes < 0 {
			return s[:i] + "…"
		}
	}
	return s
}

// LogIn takes the form's token.
func (c *Console) LogIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	cookie, err := c.Access.LogIn(r.Context(), r, r.PostFormValue("token"))
	if err != nil {
		if p := problem.From(err); p.Code == "internal" {
			c.Logger.Error("log-in failed", "err", err)
		}
		c.render(w, http.StatusForbidden, c.login, page{Title: "Open the console", Error: problem.From(err).Detail})
		return
	}
	http.SetCookie(w, cookie)
	w.Header().Set("Location", "./")
	w.WriteHeader(http.StatusSeeOther)
}

// LogOut ends the browser's session.
func (c *Console) LogOut(w http.ResponseWriter, r *http.Request) {
	cookies, err := c.Access.LogOut(r.Context(), r)
	if err != nil {
		c.Logger.Error("log-out failed", "err", err)
		problem.Write(w, problem.From(err))
		return
	}
	for _, cookie := range cookies {
		http.SetCookie(w, cookie)
	}
	w.Header().Set("Location", "./")
	w.WriteHeader(http.StatusSeeOther)
}

func (c *Console) render(w http.ResponseWriter, status int, t *template.Template, p page) {
	p.Version = c.Version
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "page.html", p); err != nil {
		c.Logger.Error("page not drawn", "page", p.Title, "err", err)
		problem.Write(w, problem.From(err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client may have gone
}
