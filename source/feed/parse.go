package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/microcosm-cc/bluemonday"
	"github.com/mmcdole/gofeed"
	"golang.org/x/net/html/charset"
)

// Bounds of a document, and of what an entry takes into an event.
const (
	maxDepth    = 256
	maxTokens   = 1_000_000
	maxEntries  = 5000
	maxTitle    = 1000 // bytes; it is the event's subject too
	maxSummary  = 16 << 10
	maxContent  = 96 << 10 // a JSON string may take twice as many bytes
	maxAuthor   = 500
	maxList     = 50 // categories, enclosures
	maxCategory = 200
	maxURL      = 4 << 10
)

// Entry is the data of a feed.entry event.
type Entry struct {
	Feed       string      `json:"feed"` // the watch's name
	Title      string      `json:"title,omitempty"`
	URL        string      `json:"url,omitempty"`
	Author     string      `json:"author,omitempty"`
	Summary    string      `json:"summary,omitempty"` // safe HTML
	Content    string      `json:"content,omitempty"` // safe HTML
	Published  *time.Time  `json:"published,omitempty"`
	Updated    *time.Time  `json:"updated,omitempty"`
	Categories []string    `json:"categories,omitempty"`
	Image      string      `json:"image,omitempty"`
	Enclosures []Enclosure `json:"enclosures,omitempty"`
	FirstSeen  time.Time   `json:"first_seen"`

	id string // stable, 32 hexadecimal digits
}

// Enclosure is a file that belongs to an entry.
type Enclosure struct {
	URL    string `json:"url"`
	Type   string `json:"type,omitempty"`
	Length string `json:"length,omitempty"`
}

// errNoFeed is returned for what is no feed at all.
var errNoFeed = errors.New("this is not a feed (RSS, Atom, RDF or JSON Feed)")

// parse reads a feed's entries in the order of the document. What it makes of
// text is safe: HTML is cleaned, links are http, https or mailto.
func parse(body []byte, base string) (entries []Entry, err error) {
	defer func() { // the parser is not ours
		if p := recover(); p != nil {
			entries, err = nil, fmt.Errorf("the feed cannot be read: %v", p)
		}
	}()
	body = tidy(body)
	if err := inspect(body, base); err != nil {
		return nil, err
	}
	parsed, err := gofeed.NewParser().Parse(bytes.NewReader(body))
	if errors.Is(err, gofeed.ErrFeedTypeNotDetected) {
		return nil, errNoFeed
	}
	if err != nil {
		return nil, fmt.Errorf("the feed cannot be read: %w", err)
	}
	if len(parsed.Items) > maxEntries {
		return nil, fmt.Errorf("the feed has %d entries, at most %d are read", len(parsed.Items), maxEntries)
	}
	root, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("the feed's address: %w", err)
	}
	c := cleaner{base: root, markup: markupPolicy(), text: bluemonday.StrictPolicy()}
	for _, item := range parsed.Items {
		if item != nil {
			entries = append(entries, c.entry(item))
		}
	}
	return entries, nil
}

// tidy drops the byte order mark and the control bytes that XML forbids. The
// parser drops them too: it must not see more than what was inspected.
func tidy(body []byte) []byte {
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	return slices.DeleteFunc(slices.Clone(body), func(b byte) bool {
		return b < ' ' && b != '\t' && b != '\n' && b != '\r'
	})
}

// inspect refuses what would harm a parser, before one sees it.
func inspect(body []byte, base string) error {
	start := bytes.TrimLeft(body, " \t\r\n")
	switch {
	case len(start) == 0:
		return errors.New("the answer is empty")
	case start[0] == '{':
		return inspectJSON(body)
	case looksLikeHTML(start):
		return noFeedButHTML(start, base)
	}
	return inspectXML(body)
}

// size is what was seen of a document.
type size struct{ depth, tokens, entries int }

func (s *size) check() error {
	s.tokens++
	switch {
	case s.depth > maxDepth || s.tokens > maxTokens:
		return fmt.Errorf("the feed is nested deeper than %d or has more than %d parts", maxDepth, maxTokens)
	case s.entries > maxEntries:
		return fmt.Errorf("the feed has more than %d entries", maxEntries)
	}
	return nil
}

// inspectXML walks the tokens: no entities of its own, bounded depth and number.
func inspectXML(body []byte) error {
	d := xml.NewDecoder(bytes.NewReader(body))
	d.Strict = false
	d.CharsetReader = charset.NewReaderLabel
	var seen size
	for {
		token, err := d.RawToken()
		if err != nil {
			return nil // the end; or what the parser stops at too, unless it had enough before
		}
		switch t := token.(type) {
		case xml.StartElement:
			seen.depth++
			if strings.EqualFold(t.Name.Local, "item") || strings.EqualFold(t.Name.Local, "entry") {
				seen.entries++
			}
		case xml.EndElement:
			seen.depth--
		case xml.Directive:
			if bytes.Contains(bytes.ToUpper(t), []byte("ENTITY")) {
				return errors.New("the feed defines entities, which is refused (billion laughs)")
			}
		}
		if err := seen.check(); err != nil {
			return err
		}
	}
}

// inspectJSON does the same. Its entries are the objects in lists of the whole.
func inspectJSON(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	var seen size
	for {
		token, err := d.Token()
		if err != nil {
			return nil // as above
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if seen.depth++; seen.depth == 3 {
				seen.entries++
			}
		case json.Delim('}'), json.Delim(']'):
			seen.depth--
		}
		if err := seen.check(); err != nil {
			return err
		}
	}
}

func looksLikeHTML(start []byte) bool {
	head := bytes.ToLower(start[:min(len(start), 512)])
	return bytes.HasPrefix(head, []byte("<!doctype html")) || bytes.HasPrefix(head, []byte("<html")) ||
		bytes.Contains(head, []byte("<html")) && !bytes.Contains(head, []byte("<rss")) && !bytes.Contains(head, []byte("<feed"))
}

// Links to feeds in a page: <link rel="alternate" type="application/rss+xml" href="...">.
var (
	linkTag  = regexp.MustCompile(`(?i)<link\s[^>]{0,1000}>`)
	feedType = regexp.MustCompile(`(?i)type\s*=\s*["']?application/(rss\+xml|atom\+xml|feed\+json)`)
	hrefAttr = regexp.MustCompile(`(?i)href\s*=\s*["']?([^"'\s>]+)`)
)

// noFeedButHTML names the feeds that the page links to.
func noFeedButHTML(page []byte, base string) error {
	root, err := url.Parse(base)
	if err != nil {
		root = &url.URL{}
	}
	var found []string
	for _, tag := range linkTag.FindAll(page[:min(len(page), 256<<10)], 50) {
		href := hrefAttr.FindSubmatch(tag)
		if !feedType.Match(tag) || href == nil || len(found) == 5 {
			continue
		}
		if u, err := root.Parse(html.UnescapeString(string(href[1]))); err == nil {
			found = append(found, u.String())
		}
	}
	if len(found) == 0 {
		return fmt.Errorf("this is an HTML page, not a feed, and it names none: %w", errNoFeed)
	}
	return fmt.Errorf("this is an HTML page, not a feed; it names these: %s: %w", strings.Join(found, ", "), errNoFeed)
}

// cleaner makes entries of items.
type cleaner struct {
	base         *url.URL
	markup, text *bluemonday.Policy
}

func markupPolicy() *bluemonday.Policy {
	p := bluemonday.UGCPolicy()
	p.AllowURLSchemes("http", "https", "mailto")
	return p
}

func (c *cleaner) entry(item *gofeed.Item) Entry {
	e := Entry{
		Title:     c.plain(item.Title, maxTitle),
		URL:       c.link(item.Link),
		Summary:   c.html(item.Description, maxSummary),
		Content:   c.html(item.Content, maxContent),
		Published: utc(item.PublishedParsed),
		Updated:   utc(item.UpdatedParsed),
		id:        identify(item),
	}
	if len(item.Authors) > 0 && item.Authors[0] != nil {
		e.Author = c.plain(cmpOr(item.Authors[0].Name, item.Authors[0].Email), maxAuthor)
	}
	if item.Image != nil {
		e.Image = c.link(item.Image.URL)
	}
	for _, name := range item.Categories[:min(len(item.Categories), maxList)] {
		if name = c.plain(name, maxCategory); name != "" {
			e.Categories = append(e.Categories, name)
		}
	}
	for _, file := range item.Enclosures[:min(len(item.Enclosures), maxList)] {
		if file == nil {
			continue
		}
		if link := c.link(file.URL); link != "" {
			e.Enclosures = append(e.Enclosures, Enclosure{link, c.plain(file.Type, maxCategory), c.plain(file.Length, 20)})
		}
	}
	return e
}

// identify hashes what names the entry: its id, else its link, else its text.
func identify(item *gofeed.Item) string {
	name := cmpOr(item.GUID, item.Link)
	if name == "" {
		name = item.Title + "\x00" + item.Description + "\x00" + item.Content
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// utc drops times that JSON could not carry.
func utc(t *time.Time) *time.Time {
	if t == nil || t.Year() < 1 || t.Year() > 9999 {
		return nil
	}
	u := t.UTC()
	return &u
}

// plain is text without markup or line breaks.
func (c *cleaner) plain(s string, limit int) string {
	s = html.UnescapeString(c.text.Sanitize(cut(s, 4*limit)))
	return cut(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xa0 }), " "), limit)
}

// html is clean markup. Escapes make it longer: what would be too long is cut
// before it is cleaned, for markup that is cut is not clean.
func (c *cleaner) html(s string, limit int) string {
	for s = cut(s, limit); ; s = cut(s, len(s)/2) {
		if clean := c.markup.Sanitize(s); len(clean) <= 2*limit {
			return clean
		}
	}
}

func (c *cleaner) link(s string) string {
	s = strings.TrimSpace(s)
	u, err := c.base.Parse(s)
	if s == "" || err != nil || len(s) > maxURL {
		return ""
	}
	switch u.Scheme {
	case "http", "https", "mailto":
		return u.String()
	}
	return ""
}

// cut shortens s to valid UTF-8 of at most limit bytes.
func cut(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
