package feed

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/chappe/chappe/source"
)

// Bounds of a fetch.
const (
	maxBody   = 15 << 20 // bytes, decoded
	fetchTime = 30 * time.Second
)

// validators are those of the last answer, byte for byte (RFC 9110 §8.8).
type validators struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

// answer is what the server said.
type answer struct {
	unchanged   bool // 304
	body        []byte
	contentType string
	url         string // after redirects
	private     bool   // it came from inside
	validators
}

// fetch asks for the feed, conditionally once it was read.
func (r *Runner) fetch(ctx context.Context, known validators) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	a := &answer{}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if addr, err := netip.ParseAddrPort(info.Conn.RemoteAddr().String()); err == nil {
			ip := addr.Addr().Unmap()
			a.private = ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
		}
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", r.UserAgent)
	req.Header.Set("Accept", "application/atom+xml, application/rss+xml, application/feed+json, application/rdf+xml;q=0.9, application/xml;q=0.8, text/xml;q=0.8, application/json;q=0.7, */*;q=0.1")
	req.Header.Set("Accept-Encoding", "gzip")
	if known.ETag != "" {
		req.Header.Set("If-None-Match", known.ETag)
	}
	if known.LastModified != "" {
		req.Header.Set("If-Modified-Since", known.LastModified)
	}
	resp, err := r.Client.Do(req)
	if err != nil {
		return nil, explain(err)
	}
	defer resp.Body.Close()
	return a, a.take(resp, known)
}

// take reads the response into a.
func (a *answer) take(resp *http.Response, known validators) error {
	a.url = resp.Request.URL.String()
	a.validators = validatorsOf(resp.Header)
	switch resp.StatusCode {
	case http.StatusOK:
		a.contentType = resp.Header.Get("Content-Type")
		var err error
		a.body, err = readBody(resp)
		return err
	case http.StatusNotModified:
		if known == (validators{}) {
			return errors.New("the server answered 304 (not modified) although nothing was known of the feed")
		}
		a.unchanged = true
		if a.ETag == "" { // RFC 9110 §15.4.5: a 304 may leave out what did not change
			a.ETag = known.ETag
		}
		if a.LastModified == "" {
			a.LastModified = known.LastModified
		}
		return nil
	}
	return refusal(resp)
}

// validatorsOf leaves out a Last-Modified of the very second of the answer
// where it is all there is: the feed can change again in that second and keep
// it, and would be 304 for ever (RFC 9110 §8.8.2.2). It is taken next time.
func validatorsOf(h http.Header) validators {
	v := validators{h.Get("ETag"), h.Get("Last-Modified")}
	modified, err := http.ParseTime(v.LastModified)
	date, dateErr := http.ParseTime(h.Get("Date"))
	if v.ETag == "" && err == nil && dateErr == nil && date.Sub(modified) < time.Second {
		v.LastModified = ""
	}
	return v
}

// refusal is what a status other than 200 and 304 means for the watch.
func refusal(resp *http.Response) error {
	err := fmt.Errorf("the server answered %s", resp.Status)
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return &source.ParkError{Cause: fmt.Errorf("%w: it wants other credentials; change the address, then restart", err)}
	case http.StatusGone:
		return &source.ParkError{Cause: fmt.Errorf("%w: the feed is gone for good; remove the watch", err)}
	}
	if after := retryAfter(resp.Header.Get("Retry-After")); !after.IsZero() {
		return &source.RetryError{After: after, Cause: err}
	}
	return err
}

// retryAfter reads seconds or a date (RFC 9110 §10.2.3), at most a day ahead.
func retryAfter(s string) time.Time {
	now := time.Now()
	after, err := http.ParseTime(s)
	if err != nil {
		seconds, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || seconds < 0 {
			return time.Time{}
		}
		after = now.Add(time.Duration(min(seconds, 86400)) * time.Second)
	}
	if most := now.Add(24 * time.Hour); after.After(most) {
		return most
	}
	return after
}

// readBody inflates and counts. A body that is cut is an error, not a short feed.
func readBody(resp *http.Response) ([]byte, error) {
	body := io.Reader(resp.Body)
	switch encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		zipped, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("the answer says gzip and is not: %w", err)
		}
		body = zipped
	default:
		return nil, fmt.Errorf("the answer has the encoding %q, which was not asked for", encoding)
	}
	b, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("the answer is cut after %d bytes", len(b))
	}
	if err != nil {
		return nil, explain(err)
	}
	if len(b) > maxBody {
		return nil, fmt.Errorf("the feed is larger than %d MB", maxBody>>20)
	}
	return b, nil
}

// explain says what a client's error means; who reads it knows the address.
func explain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no whole answer came within %v", fetchTime)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
