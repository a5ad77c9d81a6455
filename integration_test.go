//go:build integration

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// instance is a real server: the program as it is built, without the race
// detector, as a process that can be killed.
type instance struct {
	t       *testing.T
	binary  string
	folder  string // where it runs; its data and configuration are there
	address string
	url     string
	setup   string // the one-time token
	cmd     *exec.Cmd
}

// newInstance builds the program and starts it with the configuration.
func newInstance(t *testing.T, config string) *instance {
	t.Helper()
	in := &instance{t: t, folder: t.TempDir()}
	in.binary = filepath.Join(in.folder, "chappe")
	build := exec.Command("go", "build", "-o", in.binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(in.folder, "chappe.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in.address = free.Addr().String()
	in.url = "http://" + in.address
	free.Close()
	in.start()
	t.Cleanup(in.kill)
	return in
}

// start runs the server and returns when it is ready.
func (in *instance) start() { in.startWith(exec.Command(in.binary, "serve", "--listen", in.address)) }

func (in *instance) startWith(cmd *exec.Cmd) {
	in.t.Helper()
	in.cmd = cmd
	in.cmd.Dir = in.folder
	stderr, err := in.cmd.StderrPipe()
	if err == nil {
		err = in.cmd.Start()
	}
	if err != nil {
		in.t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	var said strings.Builder
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if _, setup, ok := strings.Cut(lines.Text(), "?setup="); ok {
			in.setup = setup
			go io.Copy(io.Discard, stderr) // ends with the process
			return
		}
	}
	in.t.Fatalf("the server did not start:\n%s", said.String())
}

// kill ends the server as a power failure would.
func (in *instance) kill() {
	_ = in.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	_ = in.cmd.Wait()
}

// token makes an API token with all scopes.
func (in *instance) token() string {
	in.t.Helper()
	cmd := exec.Command(in.binary, "token", "api", "--scopes", "admin")
	cmd.Dir = in.folder
	out, err := cmd.Output()
	if err != nil {
		in.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// receipt is what publishing answers for one event.
type receipt struct {
	ID, Topic, Cursor string
	Duplicate         bool
}

// publish posts the body until it is acknowledged, over restarts.
func (in *instance) publish(ctx context.Context, token string, body []byte) ([]receipt, error) {
	for {
		receipts, retry, err := in.publishOnce(ctx, token, body)
		if err == nil || !retry || ctx.Err() != nil {
			return receipts, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (in *instance) publishOnce(ctx context.Context, token string, body []byte) (receipts []receipt, retry bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url+"/v1/events", bytes.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, true, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, true, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, resp.StatusCode == http.StatusServiceUnavailable, fmt.Errorf("%s: %s", resp.Status, text)
	}
	var answer struct{ Events []receipt }
	return answer.Events, false, json.Unmarshal(text, &answer)
}

// streamed is one message of a stream.
type streamed struct{ cursor, data string }

// follow reads the stream of a topic and, when it breaks, goes on from its
// cursor, until ctx ends. A reset fails the test: nothing here is purged.
func (in *instance) follow(ctx context.Context, token, topic, cursor string, each func(streamed)) {
	for ctx.Err() == nil {
		cursor = in.followOnce(ctx, token, topic, cursor, each)
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (in *instance) followOnce(ctx context.Context, token, topic, cursor string, each func(streamed)) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, in.url+"/v1/stream?topic="+topic+"&after="+cursor, nil)
	if err != nil {
		in.t.Error(err)
		return cursor
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return cursor
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		in.t.Errorf("the stream answered %s", resp.Status)
	}
	_ = readStream(resp.Body, func(m message) error { // ends with the server
		if strings.Contains(m.data, `"control":"reset"`) {
			in.t.Errorf("the stream was reset after %s: %s", cursor, m.data)
		}
		if m.id != "" {
			cursor = m.id
		}
		if m.name == "" {
			each(streamed{m.id, m.data})
		}
		return nil
	})
	return cursor
}

// log reads all of a topic.
func (in *instance) log(token, topic string) (events []streamed) {
	in.t.Helper()
	for after := "start"; ; {
		req, err := http.NewRequestWithContext(in.t.Context(), http.MethodGet, in.url+"/v1/events?limit=1000&topic="+topic+"&after="+after, nil)
		if err != nil {
			in.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			in.t.Fatal(err)
		}
		var page struct {
			Events []json.RawMessage
			Cursor string
		}
		err = json.NewDecoder(resp.Body).Decode(&page)
		resp.Body.Close()
		if err != nil {
			in.t.Fatal(err)
		}
		for _, raw := range page.Events {
			var e struct{ Cursor string }
			if err := json.Unmarshal(raw, &e); err != nil {
				in.t.Fatal(err)
			}
			events = append(events, streamed{e.Cursor, string(raw)})
		}
		if page.Cursor == after || len(page.Events) == 0 {
			return events
		}
		after = page.Cursor
	}
}

const keepAll = "topics: [{match: \"**\", keep: {events: 10000000}}]\n"

// Every acknowledged event survives 20 kills: it is there, once, at the
// cursor that was given, in its publisher's order; and each follower, which
// resumed after each kill, has seen the very log.
func TestIntegrationKill(t *testing.T) {
	const kills, publishers, followers, perKill = 20, 8, 4, 60
	in := newInstance(t, keepAll)
	token := in.token()
	publishing, stop := context.WithCancel(t.Context())
	acked := make(chan [2]string, 1024) // id and cursor
	var wait, reading sync.WaitGroup
	for p := range publishers {
		wait.Go(func() {
			for n := 0; publishing.Err() == nil; n++ {
				id := fmt.Sprintf("%d-%d", p, n)
				body := fmt.Appendf(nil, `{"topic":"load/%d","id":%q,"data":{"p":%d,"n":%d}}`, p%3, id, p, n)
				receipts, err := in.publish(context.WithoutCancel(publishing), token, body)
				if err != nil || len(receipts) != 1 {
					t.Errorf("publish %s: %v, %v", id, receipts, err)
					return
				}
				acked <- [2]string{id, receipts[0].Cursor}
			}
		})
	}
	following, stopFollowing := context.WithCancel(t.Context())
	seen := make([][]streamed, followers)
	var mu sync.Mutex
	for f := range followers {
		reading.Go(func() {
			in.follow(following, token, "load/*", "start", func(m streamed) {
				mu.Lock()
				defer mu.Unlock()
				seen[f] = append(seen[f], m)
			})
		})
	}
	receipts := map[string]string{}
	for range kills {
		for range perKill {
			r := <-acked
			receipts[r[0]] = r[1]
		}
		in.kill()
		in.start()
	}
	stop()
	go func() { wait.Wait(); close(acked) }()
	for r := range acked {
		receipts[r[0]] = r[1]
	}

	log := in.log(token, "load/*")
	checkLog(t, log, receipts)
	for f := range followers {
		awaitLen(t, &mu, &seen[f], len(log))
	}
	stopFollowing()
	reading.Wait()
	for f := range followers {
		for i, m := range seen[f] {
			if i >= len(log) || m.cursor != log[i].cursor {
				t.Fatalf("follower %d: its event %d of %d is %s; the log has %d", f, i, len(seen[f]), m.cursor, len(log))
			}
		}
	}
	t.Logf("%d acknowledged events over %d kills, %d followers: all there, once, in order", len(receipts), kills, followers)
}

func awaitLen(t *testing.T, mu *sync.Mutex, list *[]streamed, n int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(time.Minute)
	for range tick.C {
		mu.Lock()
		have := len(*list)
		mu.Unlock()
		if have >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a follower has %d events of %d", have, n)
		}
	}
}

func checkLog(t *testing.T, log []streamed, receipts map[string]string) {
	t.Helper()
	last := map[int]int{}
	cursors := map[string]string{}
	for _, m := range log {
		var e struct {
			ID   string
			Data struct{ P, N int }
		}
		if err := json.Unmarshal([]byte(m.data), &e); err != nil {
			t.Fatal(err)
		}
		if _, twice := cursors[e.ID]; twice {
			t.Errorf("event %s is in the log twice", e.ID)
		}
		cursors[e.ID] = m.cursor
		if n, ok := last[e.Data.P]; e.Data.N != n+1 && (ok || e.Data.N != 0) {
			t.Errorf("publisher %d: event %d comes after %d", e.Data.P, e.Data.N, n)
		}
		last[e.Data.P] = e.Data.N
	}
	for id, cursor := range receipts {
		if cursors[id] != cursor {
			t.Errorf("event %s was acknowledged at %s and is at %q", id, cursor, cursors[id])
		}
	}
}

// When the disk takes no more, publishes fail with a clear answer, nothing
// acknowledged is lost, and all is well again as soon as there is room.
func TestIntegrationFullDisk(t *testing.T) {
	in := newInstance(t, keepAll)
	token := in.token()
	in.kill()
	// A file that may not grow past 3 MB fails as a full disk does.
	in.startWith(exec.Command("sh", "-c", `ulimit -S -f 6000; exec "$0" "$@"`, in.binary, "serve", "--listen", in.address))
	big := strings.Repeat("x", 100<<10)
	acked := 0
	publish := func() error {
		_, _, err := in.publishOnce(t.Context(), token, fmt.Appendf(nil, `{"topic":"full","id":"%d","data":%q}`, acked, big))
		if err == nil {
			acked++
		}
		return err
	}
	var failure error
	for failure == nil && acked < 1000 {
		failure = publish()
	}
	if failure == nil || !strings.Contains(failure.Error(), "storage-failed") {
		t.Fatalf("after %d events of 100 KiB in 3 MB: %v, want the code storage-failed", acked, failure)
	}
	if status := in.status("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %d while events cannot be stored, want 503", status)
	}
	if got := len(in.log(token, "full")); got != acked {
		t.Errorf("%d events are in the log, %d were acknowledged", got, acked)
	}
	room := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(in.cmd.Process.Pid, unix.RLIMIT_FSIZE, &room, nil); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := publish(); err != nil {
			t.Fatalf("with room again: %v", err)
		}
	}
	if status := in.status("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz answers %d with room again, want 200", status)
	}
	in.kill()
	in.start()
	if got := len(in.log(token, "full")); got != acked {
		t.Errorf("%d events are in the log after a restart, %d were acknowledged", got, acked)
	}
}

func (in *instance) status(path string) int {
	in.t.Helper()
	resp, err := http.Get(in.url + path)
	if err != nil {
		in.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A reader that is 10 MB behind, with the largest events, catches up and goes live.
func TestIntegrationCatchUp(t *testing.T) {
	const events = 44
	in := newInstance(t, keepAll)
	token := in.token()
	big := strings.Repeat("x", 256<<10-2)
	for n := range events {
		if _, err := in.publish(t.Context(), token, fmt.Appendf(nil, `{"topic":"big","id":"%d","data":%q}`, n, big)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan string)
	var reading sync.WaitGroup
	reading.Go(func() {
		in.followOnce(ctx, token, "big", "start", func(m streamed) {
			var e struct{ ID, Data string }
			if err := json.Unmarshal([]byte(m.data), &e); err != nil || len(e.Data) != len(big) && e.Data != "live" {
				t.Errorf("event %s: %d bytes of data, %v", e.ID, len(e.Data), err)
			}
			select {
			case got <- e.ID:
			case <-ctx.Done():
			}
		})
	})
	for n := range events {
		if id := <-got; id != fmt.Sprint(n) {
			t.Fatalf("event %s came, want %d", id, n)
		}
	}
	if _, err := in.publish(t.Context(), token, []byte(`{"topic":"big","id":"live","data":"live"}`)); err != nil {
		t.Fatal(err)
	}
	if id := <-got; id != "live" {
		t.Errorf("event %s came, want the live one", id)
	}
	cancel()
	reading.Wait()
}

// 1,000 readers resume from their cursors after a restart while 1,000 events
// a second arrive: none misses an event, none gets one twice.
func TestIntegrationResume(t *testing.T) {
	const readers, topics, batches, pause = 1000, 50, 240, 50 * time.Millisecond
	in := newInstance(t, keepAll+"limits: {per_address: 2000}\n")
	token := in.token()
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 100
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	next := make([]int, readers) // the number each expects
	faults := 0
	var reading sync.WaitGroup
	for i := range readers {
		reading.Go(func() {
			in.follow(ctx, token, fmt.Sprintf("t/%d", i%topics), "start", func(m streamed) {
				var e struct{ Data int }
				err := json.Unmarshal([]byte(m.data), &e)
				mu.Lock()
				defer mu.Unlock()
				if err != nil || e.Data != next[i] {
					faults++
				}
				next[i] = e.Data + 1
			})
		})
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for n := range batches {
		if n == batches/3 {
			in.kill()
			in.start()
		}
		var body []string
		for topic := range topics {
			body = append(body, fmt.Sprintf(`{"topic":"t/%d","id":"%d-%d","data":%d}`, topic, topic, n, n))
		}
		if _, err := in.publish(ctx, token, []byte("["+strings.Join(body, ",")+"]")); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
	deadline := time.Now().Add(30 * time.Second)
	for range tick.C {
		mu.Lock()
		behind := 0
		for _, n := range next {
			if n != batches {
				behind++
			}
		}
		mu.Unlock()
		if behind == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d readers have not got all", behind)
		}
	}
	cancel()
	reading.Wait()
	if faults != 0 {
		t.Errorf("%d gaps or doubles", faults)
	}
}
