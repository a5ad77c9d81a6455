//go:build !nethttp

package front_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/front"
)

// childVariable has the test's binary be a server of its own: with a limit of
// descriptors.
const childVariable = "CHAPPE_FRONT_CHILD"

const childIdle = 800 * time.Millisecond

// runChild serves until its standard input ends.
func runChild(descriptors string) error {
	var limit syscall.Rlimit
	if _, err := fmt.Sscan(descriptors, &limit.Cur); err != nil {
		return err
	}
	limit.Max = limit.Cur
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	s, err := front.New(front.Options{Connections: 10_000, IdleTime: childIdle, HeadTime: childIdle, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	s.Handle("/now", func(x *front.Exchange) { x.Answer(http.StatusOK, nil, []byte("now")) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	handed, err := s.Listen(l, server)
	if err != nil {
		return err
	}
	go func() { _ = server.Serve(handed) }() // ends with the process
	fmt.Println(l.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startChild returns the address of a server in a process of its own.
func startChild(t *testing.T, descriptors string) (*fixture, *exec.Cmd) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+descriptors)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait() // it ends with its input
	})
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{address: strings.TrimSpace(address)}, cmd
}

func (f *fixture) now(conn net.Conn) error {
	if _, err := io.WriteString(conn, "GET /now HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		return err
	}
	b := make([]byte, 1000)
	n, err := conn.Read(b)
	if err == nil && !bytes.HasSuffix(b[:n], []byte("now")) {
		err = fmt.Errorf("answered %q", b[:n])
	}
	return err
}

// Without descriptors connections wait, and are served when there are some.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	f, _ := startChild(t, "60")
	var conns []net.Conn
	for range 150 {
		conns = append(conns, f.dial(t))
	}
	served := 0
	for _, conn := range conns {
		_ = conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
		if f.now(conn) == nil {
			served++
		}
	}
	if served < 20 || served == len(conns) { // some make room, since they are idle
		t.Errorf("%d were served, with 60 descriptors", served)
	}
	for _, conn := range conns {
		conn.Close()
	}
	for range 30 {
		conn := f.dial(t)
		if err := f.now(conn); err != nil {
			t.Fatalf("once there are descriptors again: %v", err)
		}
		conn.Close()
	}
	t.Logf("%d of 150 were served with 60 descriptors", served)
}

// A process that was stopped closes nobody for the time that it missed.
func TestStopped(t *testing.T) {
	t.Parallel()
	f, cmd := startChild(t, "200")
	var conns []net.Conn
	for range 50 {
		conn := f.dial(t)
		if err := f.now(conn); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(3 * childIdle)
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for i, conn := range conns {
		if err := f.now(conn); err != nil {
			t.Errorf("connection %d after the stop: %v", i, err)
		}
	}
	for _, conn := range conns { // and is idle from then on
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("one that is idle ends with %v", err)
		}
	}
}
