package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"math/rand/v2"

	"github.com/chappe/chappe/bench/serverproc"
)

// overHTTP publishes to a real server on the same log, n connections with one
// request of so many events in flight each. The rate is of events.
func overHTTP(keep int64, n, batch int, length time.Duration) result {
	home, err := os.MkdirTemp("", "chappe-bench-")
	check(err)
	defer os.RemoveAll(home)
	binary, err := serverproc.Build(home)
	check(err)
	config := fmt.Sprintf("topics: [{match: \"bench/**\", keep: {events: %d}}]\n", keep)
	check(os.WriteFile(filepath.Join(home, "chappe.yaml"), []byte(config), 0o600))
	data, err := filepath.Abs(*dir)
	check(err)
	token, err := exec.Command(binary, "token", "api", "--scopes", "publish", "--data", data).Output()
	check(err)
	server, err := serverproc.Start(binary, home, "--data", data)
	check(err)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n, MaxConnsPerHost: n}}
	auth := "Bearer " + strings.TrimSpace(string(token))
	latencies := make([][]time.Duration, n)
	start := time.Now()
	var publishers sync.WaitGroup
	for i := range n {
		publishers.Go(func() {
			for time.Since(start) < length {
				began := time.Now()
				post(client, server.URL, auth, batch)
				latencies[i] = append(latencies[i], time.Since(began))
			}
		})
	}
	publishers.Wait()
	took := time.Since(start)
	check(server.Stop())
	r := summary(latencies, took)
	r.rate *= float64(batch)
	return r
}

func post(client *http.Client, url, auth string, batch int) {
	events := make([]map[string]any, batch)
	for i := range events {
		events[i] = map[string]any{"topic": fmt.Sprintf("bench/%d", rand.IntN(*topics)), "data": json.RawMessage(data)}
	}
	body, err := json.Marshal(events)
	check(err)
	req, err := http.NewRequest(http.MethodPost, url+"/v1/events", bytes.NewReader(body))
	check(err)
	req.Header.Set("Authorization", auth)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	check(err)
	answer, err := io.ReadAll(resp.Body)
	check(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		check(fmt.Errorf("%s: %s", resp.Status, answer))
	}
}
