package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a server under measurement: ours or a peer.
type server struct {
	name    string
	address netip.AddrPort
	admin   string // a peer's second listener, as http://...
	token   string // ours: an API token
	cmd     *exec.Cmd
	client  *http.Client
}

const (
	startTime   = 20 * time.Second
	requestTime = 30 * time.Second
	ticks       = 100 // of /proc/*/stat a second: USER_HZ
)

// startPeer runs this binary as a peer.
func startPeer(ctx context.Context, name string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(name, exec.CommandContext(ctx, self, "-peer", name))
}

// home is a folder with a configuration and data of ours.
type home struct {
	binary, dir, token, secret string
}

// newHome makes one for so many sessions. The key files of tokens are there.
func newHome(ctx context.Context, r *run, name string, sessions int) (*home, error) {
	h := &home{binary: r.binary, dir: filepath.Join(r.dir, name), secret: strings.Repeat("benchmark ", 4)}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`limits: {connections: %d, per_address: 2000, per_user: 20000, heartbeat: %v}
access: {jwt: {hs256_secret_file: secret}}
topics:
  - {match: "public/**", public: true, ephemeral: true}
  - {match: "kept/**", public: true, keep: {events: 1000000}}
  - {match: "private/**", ephemeral: true}
`, max(18_000, sessions), r.heartbeat)
	if err := os.WriteFile(filepath.Join(h.dir, "chappe.yaml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(h.dir, "secret"), []byte(h.secret), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, h.binary, "token", "api", "--name", "api", "--scopes", "publish,read,admin", "--data", "data")
	cmd.Dir = h.dir
	token, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("make a token: %w", err)
	}
	h.token = strings.TrimSpace(string(token))
	return h, nil
}

// start runs chappe serve on an address; port 0 takes a free one.
func (h *home) start(ctx context.Context, listen string) (*server, error) {
	cmd := exec.CommandContext(ctx, h.binary, "serve", "--listen", listen, "--data", "data")
	cmd.Dir = h.dir
	s, err := start("chappe", cmd)
	if err == nil {
		s.token = h.token
	}
	return s, err
}

// start runs a server until it listens. The kernel ends it with us.
func start(name string, cmd *exec.Cmd) (*server, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{name: name, cmd: cmd, client: &http.Client{Timeout: requestTime, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}}
	late := time.AfterFunc(startTime, func() { _ = cmd.Process.Kill() }) // ends the reading below
	defer late.Stop()
	lines := bufio.NewScanner(stderr)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		if admin, found := strings.CutPrefix(lines.Text(), "admin on "); found {
			s.admin = admin
		}
		if address, found := strings.CutPrefix(lines.Text(), "listening on http://"); found {
			go func() { _, _ = io.Copy(io.Discard, stderr) }() // ends with the process
			s.address, err = netip.ParseAddrPort(address)
			return s, err
		}
	}
	return nil, fmt.Errorf("%s did not start: %w\n%s", name, cmd.Wait(), strings.Join(said, "\n"))
}

func (s *server) signal(signal os.Signal) error { return s.cmd.Process.Signal(signal) }

// kill ends it at once. A second time does nothing.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()         // of the kill
	s.client.CloseIdleConnections()
}

// cpu is what the process has used, in user and system.
func (s *server) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(stat, []byte(") ")) // the name may hold blanks
	fields := bytes.Fields(rest)
	if len(fields) < 13 {
		return 0, errors.New("/proc/*/stat is too short")
	}
	user, err := strconv.Atoi(string(fields[11]))
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(string(fields[12]))
	return time.Duration(user+system) * time.Second / ticks, err
}

// rss is the resident memory in bytes.
func (s *server) rss() (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var kib int
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	_, err = fmt.Sscan(string(rest), &kib)
	return kib << 10, err
}

// runtime asks what only the process can tell.
func (s *server) runtime(ctx context.Context) (f runtimeFigures, err error) {
	if s.admin != "" {
		answer, err := s.do(ctx, http.MethodGet, s.admin+"/goroutines", nil)
		if err != nil {
			return f, err
		}
		return f, json.Unmarshal(answer, &f)
	}
	answer, err := s.do(ctx, http.MethodGet, "http://"+s.address.String()+"/metrics", nil)
	if err != nil {
		return f, err
	}
	f.Goroutines = int(metric(answer, "go_goroutines"))
	f.Mallocs = uint64(metric(answer, "go_memstats_mallocs_total"))
	return f, nil
}

func metric(text []byte, name string) (v float64) {
	_, rest, found := bytes.Cut(text, []byte("\n"+name+" "))
	if found {
		_, _ = fmt.Sscan(string(rest), &v) // 0 shows
	}
	return v
}

// publish sends data to a topic, and returns when the server has answered. Ours
// takes an event with an id once, however often it is sent.
func (s *server) publish(ctx context.Context, topic, id string, data []byte) error {
	if s.admin != "" {
		_, err := s.do(ctx, http.MethodPost, s.admin+"/publish?topic="+url.QueryEscape(topic), data)
		return err
	}
	body := append([]byte(`{"topic":"`), topic...)
	if id != "" {
		body = append(append(body, `","id":"`...), id...)
	}
	body = append(append(body, `","data":`...), data...)
	_, err := s.do(ctx, http.MethodPost, "http://"+s.address.String()+"/v1/events", append(body, '}'))
	return err
}

func (s *server) do(ctx context.Context, method, url string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, answer)
	}
	return answer, err
}
