// Package serverproc builds and runs the program as a process, for benchmarks
// that measure it from outside.
package serverproc

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Build makes the static binary in dir, as make build does.
func Build(dir string) (string, error) {
	path := filepath.Join(dir, "chappe")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
}

// Process is a running server.
type Process struct {
	URL   string
	Ready time.Duration // from the start of the process to "listening on"
	cmd   *exec.Cmd
}

// Start runs chappe serve in dir and returns when it listens.
func Start(binary, dir string, args ...string) (*Process, error) {
	cmd := exec.Command(binary, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Dir = dir
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			p := &Process{URL: url, Ready: time.Since(start), cmd: cmd}
			go func() { _, _ = io.Copy(io.Discard, stderr) }() // ends with the process
			return p, nil
		}
	}
	return nil, fmt.Errorf("the server did not start: %w", cmd.Wait())
}

// RSS is the process's resident memory in KiB.
func (p *Process) RSS() (kib int, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	_, err = fmt.Sscan(rest, &kib)
	return kib, err
}

// Stop ends the process as an operator would.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.cmd.Wait()
}
