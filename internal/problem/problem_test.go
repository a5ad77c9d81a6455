package problem_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/internal/problem"
)

type coded string

func (c coded) Error() string { return "because of " + string(c) }
func (c coded) Code() string  { return string(c) }

type gone struct{ coded }

func (gone) Restart() string { return "0000000000000042" }

func TestFrom(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want problem.Problem
	}{
		{"a code", coded("forbidden"), problem.Problem{Status: 403, Title: "Forbidden", Detail: "because of forbidden", Code: "forbidden"}},
		{"wrapped", fmt.Errorf("read: %w", coded("not-found")), problem.Problem{Status: 404, Title: "Not Found", Detail: "read: because of not-found", Code: "not-found"}},
		{"a code not in the table", coded("bad-topic"), problem.Problem{Status: 400, Title: "Bad Request", Detail: "because of bad-topic", Code: "bad-topic"}},
		{"start over", fmt.Errorf("%w", gone{"cursor-gone"}), problem.Problem{Status: 410, Title: "Gone", Detail: "because of cursor-gone", Code: "cursor-gone", Cursor: "0000000000000042"}},
		{"our fault", errors.New("open /secret/path: disk full"), problem.Problem{Status: 500, Title: "Internal Server Error",
			Detail: "The server could not do this; its log says why. Nothing was stored.", Code: "internal"}},
		{"the client left", fmt.Errorf("x: %w", context.Canceled), problem.Problem{Status: 503, Title: "Service Unavailable",
			Detail: "The request ended before it was answered.", Code: "closing"}},
		{"a problem already", fmt.Errorf("x: %w", problem.New("origin-refused", "No.")), problem.Problem{Status: 403, Title: "Forbidden", Detail: "No.", Code: "origin-refused"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(&tt.want, problem.From(tt.err)); diff != "" {
				t.Errorf("From (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStatuses(t *testing.T) {
	for code, want := range map[string]int{
		"token-missing": 401, "token-invalid": 401, "token-expired": 401, "ticket-invalid": 401, "method-not-allowed": 405,
		"event-too-large": 413, "batch-too-large": 413, "body-too-large": 413, "bad-content-type": 415, "host-refused": 421,
		"too-many-sessions": 503, "closing": 503, "hook-failed": 503, "internal": 500, "anything": 400,
	} {
		if got := problem.New(code, "").GetStatus(); got != want {
			t.Errorf("New(%q) has status %d, want %d", code, got, want)
		}
	}
}

func TestWrite(t *testing.T) {
	for code, challenge := range map[string]string{"token-missing": "Bearer", "forbidden": ""} {
		w := httptest.NewRecorder()
		p := problem.New(code, "Send a token.")
		problem.Write(w, p)
		want := http.Header{"Content-Type": {"application/problem+json"}, "Cache-Control": {"no-store"}}
		if challenge != "" {
			want.Set("WWW-Authenticate", challenge)
		}
		if diff := cmp.Diff(want, w.Header()); diff != "" {
			t.Errorf("%s: header (-want +got):\n%s", code, diff)
		}
		var got map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		// RFC 9457 §3.1.3: status is that of the response.
		body := map[string]any{"status": float64(w.Code), "title": http.StatusText(p.Status), "detail": "Send a token.", "code": code}
		if diff := cmp.Diff(body, got); diff != "" {
			t.Errorf("%s: body (-want +got):\n%s", code, diff)
		}
	}
}

// Who is told to come back later is told when, and not all the same.
func TestRetryAfter(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		w := httptest.NewRecorder()
		problem.Write(w, problem.New("hook-failed", "Later."))
		seen[w.Header().Get("Retry-After")] = true
	}
	want := map[string]bool{}
	for seconds := 1; seconds <= 10; seconds++ {
		want[strconv.Itoa(seconds)] = true
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("Retry-After of 1000 answers (-want +got):\n%s", diff)
	}
}
