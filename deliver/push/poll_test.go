package push_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/internal/problem"
)

func TestPollAnswers(t *testing.T) {
	f := newFixture(t, push.Limits{})
	cursors := f.publish(t, "a", 1, 3)
	head := f.publish(t, "elsewhere", 1, 1)[0]
	ask := request{topics: []string{"a"}, after: cursors[0], wait: "0"}

	answer, resp, err := f.poll(ask, "")
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, m := range answer.Events {
		got = append(got, m.Data)
	}
	if diff := cmp.Diff([]int{2, 3}, got); diff != "" || answer.Cursor != head {
		t.Errorf("poll: cursor %s, want the head %s; events (-want +got):\n%s", answer.Cursor, head, diff)
	}
	if tag := resp.Header.Get("ETag"); tag != `"`+head+`"` || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("poll: header %v, want the cursor as ETag and no-store", resp.Header)
	}

	ask.after = ""
	for _, etag := range []string{`"` + head + `"`, `W/"` + head + `"`} {
		if _, resp, err = f.poll(ask, etag); err != nil || resp.StatusCode != http.StatusNotModified || resp.Header.Get("ETag") != `"`+head+`"` {
			t.Errorf("poll with If-None-Match %s: %v, %v, want 304 with the ETag", etag, resp, err)
		}
	}
	if answer, _, err = f.poll(ask, `"`+cursors[1]+`"`); err != nil || len(answer.Events) != 1 || answer.Events[0].Data != 3 {
		t.Errorf("poll with the ETag of event 2: %+v, %v, want event 3", answer, err)
	}
	ask.after = head
	if answer, _, err = f.poll(ask, ""); err != nil || answer.Events == nil || len(answer.Events) != 0 || answer.Cursor != head {
		t.Errorf("poll without news: %+v, %v, want [] and %s", answer, err, head)
	}
	ask.after = ""
	if answer, _, err = f.poll(ask, ""); err != nil || len(answer.Events) != 0 || answer.Cursor != head {
		t.Errorf("poll from now: %+v, %v, want [] and %s", answer, err, head)
	}
}

func TestPollProblems(t *testing.T) {
	f := newFixture(t, push.Limits{})
	purged := f.gone(t)
	head := f.bus.Head().String()
	cases := map[string]struct {
		ask    request
		etag   string
		status int
		code   string
		cursor string
	}{
		"no topic":     {request{}, "", 400, "bad-pattern", ""},
		"bad pattern":  {request{topics: []string{"a//b"}}, "", 400, "bad-pattern", ""},
		"65 patterns":  {request{topics: make([]string, 65)}, "", 400, "bad-pattern", ""},
		"bad cursor":   {request{topics: []string{"a"}, after: "k3f9.x"}, "", 400, "bad-cursor", ""},
		"bad last id":  {request{topics: []string{"a"}, after: head, lastEventID: "x"}, "", 400, "bad-cursor", ""},
		"bad wait":     {request{topics: []string{"a"}, wait: "soon"}, "", 400, "bad-wait", ""},
		"less wait":    {request{topics: []string{"a"}, wait: "-1s"}, "", 400, "bad-wait", ""},
		"other epoch":  {request{topics: []string{"a"}, after: "zzzz.1"}, "", 410, "cursor-gone", head},
		"beyond":       {request{topics: []string{"a"}, after: head + "0"}, "", 410, "cursor-gone", head},
		"purged":       {request{topics: []string{"short/a"}, after: purged}, "", 410, "cursor-gone", head},
		"gone etag":    {request{topics: []string{"a"}}, `"zzzz.1"`, 410, "cursor-gone", head},
		"no token":     {request{topics: []string{"secret/a"}}, "", 401, "token-missing", ""},
		"wrong token":  {request{topics: []string{"a"}, token: "x"}, "", 401, "token-invalid", ""},
		"other topics": {request{topics: []string{"secret/a", "**"}, token: f.token(t, "alice", time.Hour)}, "", 403, "forbidden", ""},
		"wrong ticket": {request{topics: []string{"a"}, ticket: "x"}, "", 401, "ticket-invalid", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, c.ask.url("", "/v1/poll"), nil)
			req.Header = c.ask.header()
			req.Header.Set("If-None-Match", c.etag)
			w := httptest.NewRecorder()
			f.hub.Poll(w, req)
			var p problem.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatal(err)
			}
			if w.Code != c.status || p.Status != c.status || p.Code != c.code || p.Cursor != c.cursor || p.Detail == "" ||
				w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("poll = %d %v %+v, want %d, %s and cursor %q", w.Code, w.Header(), p, c.status, c.code, c.cursor)
			}
		})
	}
}

func TestPollWaits(t *testing.T) {
	cases := map[string]time.Duration{
		"":      25 * time.Second,
		"0":     0,
		"3":     3 * time.Second,
		"1.5s":  1500 * time.Millisecond,
		"55s":   55 * time.Second,
		"10m":   55 * time.Second, // proxies give up after 60
		"99999": 55 * time.Second,
	}
	for wait, want := range cases {
		t.Run(wait, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := push.New(idleLog{}, newAccess(t, nil), push.Options{})
				began := time.Now()
				ask := request{topics: []string{"a"}, wait: wait}
				hub.Poll(httptest.NewRecorder(), newRequest(t, ask.url("", "/v1/poll"), ""))
				if got := time.Since(began); got != want {
					t.Errorf("wait=%s took %v, want %v", wait, got, want)
				}
			})
		})
	}
}

// A ninth waiter of one address on the same topics has the oldest answered,
// but not before that one has waited five seconds.
func TestPollWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := push.New(idleLog{}, newAccess(t, nil), push.Options{})
		answered := make(chan int, 16)
		poll := func(n int, topic string) {
			go func() { // ends with its answer
				w := httptest.NewRecorder()
				hub.Poll(w, newRequest(t, request{topics: []string{topic}}.url("", "/v1/poll"), ""))
				answered <- n
			}()
			synctest.Wait()
		}
		for n := range 8 {
			poll(n, "a")
		}
		poll(100, "b") // is alone on its topic
		if len(answered) != 0 {
			t.Fatalf("poll %d was answered with 8 waiting", <-answered)
		}
		poll(8, "a")
		if len(answered) != 0 {
			t.Fatalf("poll %d was answered at once: nine would poll as fast as they can", <-answered)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if first := <-answered; first != 0 {
			t.Errorf("poll %d was answered when poll 8 came, want 0", first)
		}
		for n := 9; n < 11; n++ {
			poll(n, "a")
			if len(answered) != 1 {
				t.Fatalf("%d were answered when poll %d came, want 1", len(answered), n)
			}
			if first := <-answered; first != n-8 {
				t.Errorf("poll %d was answered when poll %d came, want %d", first, n, n-8)
			}
		}
		for range 9 { // the others, when their wait is over
			<-answered
		}
	})
}
