package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is a server under measurement: ours or a peer, with all its processes.
type server struct {
	address string // host:port
	token   string // ours: an API token
	cmd     *exec.Cmd
	said    *head
	cancel  context.CancelFunc
	ended   chan struct{} // closed when the process we started has ended
}

const (
	startTime = 20 * time.Second
	stopTime  = 2 * time.Second
	ticks     = 100 // of /proc/*/stat a second: USER_HZ
)

// launch starts a server and waits until find says where it listens. What it
// says on stderr is the error's text if it ends before.
func launch(ctx context.Context, name string, cmd []string, dir string, env []string, find func(said string) (address string)) (*server, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &server{cmd: exec.CommandContext(ctx, cmd[0], cmd[1:]...), said: &head{}, cancel: cancel, ended: make(chan struct{})}
	s.cmd.Dir, s.cmd.Env, s.cmd.Stderr = dir, append(os.Environ(), env...), s.said
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // nginx and Varnish then end their workers
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = stopTime
	if err := s.cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	go func() { // ends with the process
		_ = s.cmd.Wait() // what it said tells more
		close(s.ended)
	}()
	for late := time.After(startTime); ; {
		if s.address = find(s.said.String()); s.address != "" {
			return s, nil
		}
		select {
		case <-s.ended:
			cancel()
			return nil, fmt.Errorf("%s did not start: %s", name, strings.TrimSpace(s.said.String()))
		case <-late:
			s.stop()
			return nil, fmt.Errorf("%s does not listen after %v: %s", name, startTime, strings.TrimSpace(s.said.String()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends all processes of the server. A second time does nothing.
func (s *server) stop() {
	s.cancel()
	<-s.ended
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // workers that outlived it; most often none
}

// pids are the processes of the server: the one we started and its children.
func (s *server) pids() []int {
	all := []int{s.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i])) // only a bad pattern fails
		for _, list := range lists {
			text, _ := os.ReadFile(list) // a thread that has ended has none
			for _, child := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(child); err == nil {
					all = append(all, pid)
				}
			}
		}
	}
	return all
}

// cpu is what the server has used, in user and system.
func (s *server) cpu() (total time.Duration, err error) {
	for _, pid := range s.pids() {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		_, rest, _ := bytes.Cut(stat, []byte(") ")) // the name may hold blanks
		fields := bytes.Fields(rest)
		if len(fields) < 13 {
			return 0, errors.New("/proc/*/stat is too short")
		}
		for _, field := range fields[11:13] {
			n, err := strconv.Atoi(string(field))
			if err != nil {
				return 0, err
			}
			total += time.Duration(n) * time.Second / ticks
		}
	}
	return total, nil
}

// resident memory in bytes: now, and the most there ever was. What processes
// of a server share is counted in each.
func (s *server) resident() (now, most int, err error) {
	for _, pid := range s.pids() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, 0, err
		}
		for key, sum := range map[string]*int{"VmRSS:": &now, "VmHWM:": &most} {
			var kib int
			_, rest, _ := bytes.Cut(status, []byte(key))
			if _, err := fmt.Sscan(string(rest), &kib); err != nil {
				return 0, 0, fmt.Errorf("%s of process %d: %w", key, pid, err)
			}
			*sum += kib << 10
		}
	}
	return now, most, nil
}

// head keeps the beginning of what a process says.
type head struct {
	mu   sync.Mutex
	text []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, p[:min(len(p), 4096-len(h.text))]...)
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.text)
}

// freeAddress is one that nobody listens on.
func freeAddress() (string, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return free.Addr().String(), free.Close()
}

// listens finds the address of a server that says nothing when it is ready.
func listens(address string) func(string) string {
	return func(string) string {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return ""
		}
		conn.Close()
		return address
	}
}
