//go:build linux && !nethttp

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// given is a server that was given its socket as systemd does.
type given struct {
	*exec.Cmd
	log   *bytes.Buffer
	ended chan error
}

func startGiven(t *testing.T, socket *os.File, config string) *given {
	t.Helper()
	p := &given{log: &bytes.Buffer{}, ended: make(chan error, 1)}
	p.Cmd = exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec chappe serve --config "$0"`, config)
	p.Dir, p.ExtraFiles, p.Stderr = filepath.Dir(config), []*os.File{socket}, p.log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.Wait() }() // ended by the test's end at the latest
	t.Cleanup(func() {
		_ = p.Process.Kill() // it may have ended
	})
	return p
}

// A restart behind a socket that somebody else keeps refuses nobody, answers
// all, and loses nothing that was acknowledged.
func TestHandOver(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "chappe.yaml")
	if err := os.WriteFile(config, []byte("data: data\ntopics: [{match: \"**\", public: true}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	first := startGiven(t, socket, config)
	url := "http://" + listener.Addr().String()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	get(t, client, url+"/readyz")
	cmd := exec.Command("chappe", "token", "api", "--scopes", "admin", "--config", config)
	cmd.Dir = dir
	token, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}

	publish := func(id string) (duplicate bool, err error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/events", strings.NewReader(`{"topic":"a","id":"`+id+`"}`))
		if err != nil {
			return false, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		resp, err := client.Do(req)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		var answer struct{ Events []struct{ Duplicate bool } }
		if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil || len(answer.Events) != 1 {
			return false, fmt.Errorf("%s: %s, %w", resp.Status, body, err)
		}
		return answer.Events[0].Duplicate, nil
	}

	var done, refused, failed atomic.Int64
	var stop atomic.Bool
	var mu sync.Mutex
	var acknowledged []string
	var clients sync.WaitGroup
	for c := range 4 {
		clients.Go(func() {
			for n := 0; !stop.Load(); n++ {
				id := fmt.Sprintf("%d-%d", c, n)
				_, err := publish(id)
				switch {
				case errors.Is(err, syscall.ECONNREFUSED):
					refused.Add(1)
				case err != nil:
					failed.Add(1)
					t.Log(err)
				default:
					mu.Lock()
					acknowledged = append(acknowledged, id)
					mu.Unlock()
				}
				done.Add(1)
			}
		})
	}
	reach := func(n int64) {
		t.Helper()
		until(t, fmt.Sprintf("%d requests", n), func() bool { return done.Load() >= n })
	}
	reach(200)
	second := startGiven(t, socket, config) // it waits for the first
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-first.ended; err != nil {
		t.Errorf("the first ended with %v: %s", err, first.log)
	}
	reach(done.Load() + 200)
	// Once more, with nobody there for a while: what connects waits.
	if err := second.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-second.ended; err != nil {
		t.Errorf("the second ended with %v: %s", err, second.log)
	}
	third := startGiven(t, socket, config)
	reach(done.Load() + 200)
	stop.Store(true)
	clients.Wait()
	if refused.Load() > 0 || failed.Load() > 0 {
		t.Errorf("%d connections were refused, %d requests failed, of %d", refused.Load(), failed.Load(), done.Load())
	}
	for _, id := range acknowledged {
		if duplicate, err := publish(id); err != nil || !duplicate {
			t.Fatalf("%s was acknowledged and is not there: %v", id, err)
		}
	}
	t.Logf("%d requests over two restarts, %d acknowledged", done.Load(), len(acknowledged))
	_ = third.Process.Signal(syscall.SIGTERM)
	<-third.ended
}

func get(t *testing.T, client *http.Client, url string) {
	t.Helper()
	until(t, url, func() bool {
		resp, err := client.Get(url)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// until waits until done says so.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(40 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s did not come", what)
		}
	}
}
