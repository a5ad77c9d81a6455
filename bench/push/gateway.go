package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const gatewayConns = 64

// measureGateway asks for a short prepared answer on connections that are
// kept, and each tenth time for what net/http has to answer.
func measureGateway(ctx context.Context, r *run) error {
	fmt.Printf("\n### Plain requests: %d connections kept, GET /healthz, each tenth a POST that is refused; %v each\n\n", gatewayConns, r.gateway)
	fmt.Println("| server | requests/s | requests a server CPU second | x net/http | connects | failed |\n|---|---|---|---|---|---|")
	base := 0.0
	for _, row := range []struct {
		name  string
		start func() (*server, error)
	}{
		{"net/http", func() (*server, error) { return startPeer(ctx, "net/http") }},
		{"nginx, return", func() (*server, error) { return startNginx(ctx, r) }},
		{"chappe", func() (*server, error) {
			h, err := newHome(ctx, r, "gateway", 1)
			if err != nil {
				return nil, err
			}
			return h.start(ctx, "127.0.0.1:0")
		}},
	} {
		s, err := row.start()
		if errors.Is(err, exec.ErrNotFound) {
			fmt.Printf("| %s | not installed | | | | |\n", row.name)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		g, err := s.request(ctx, r.gateway)
		s.kill()
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		perCPU := float64(g.answers.Load()) / g.cpu.Seconds()
		if base == 0 {
			base = perCPU
		}
		fmt.Printf("| %s | %.0f | %.0f | %.2f | %d | %d |\n", row.name, float64(g.answers.Load())/r.gateway.Seconds(), perCPU, perCPU/base, g.connects.Load(), g.failures.Load())
	}
	fmt.Printf("\nGoals: the %d connections are kept (connects = %d); hits a CPU second >= 1.3x nginx is the gateway's, whose part this stands for.\n", gatewayConns, gatewayConns)
	return nil
}

type gatewayRun struct {
	answers, connects, failures atomic.Int64
	cpu                         time.Duration
}

// request keeps each connection busy for a time, one request after the other.
func (s *server) request(ctx context.Context, length time.Duration) (*gatewayRun, error) {
	before, err := s.cpu()
	if err != nil {
		return nil, err
	}
	g := &gatewayRun{}
	until := time.Now().Add(length)
	ctx, cancel := context.WithDeadline(ctx, until.Add(5*time.Second))
	defer cancel()
	var asking sync.WaitGroup
	for range gatewayConns {
		asking.Go(func() {
			for time.Now().Before(until) && ctx.Err() == nil {
				if g.ask(ctx, s.address, until) != nil {
					g.failures.Add(1)
				}
			}
		})
	}
	asking.Wait()
	after, err := s.cpu()
	g.cpu = after - before
	return g, err
}

// ask uses one connection until the time is over, or it fails.
func (g *gatewayRun) ask(ctx context.Context, to netip.AddrPort, until time.Time) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	g.connects.Add(1)
	if err := conn.SetDeadline(until.Add(5 * time.Second)); err != nil {
		return err
	}
	get := []byte("GET /healthz HTTP/1.1\r\nHost: " + to.String() + "\r\n\r\n")
	post := []byte("POST /v1/tickets HTTP/1.1\r\nHost: " + to.String() + "\r\nContent-Length: 0\r\n\r\n")
	in := bufio.NewReaderSize(conn, 4096)
	for n := 0; time.Now().Before(until); n++ {
		request, wanted := get, http.StatusOK
		if n%10 == 9 {
			request, wanted = post, http.StatusUnauthorized
		}
		if _, err := conn.Write(request); err != nil {
			return err
		}
		status, err := readAnswer(in)
		if err != nil {
			return err
		}
		if status != wanted {
			return fmt.Errorf("answer %d", status)
		}
		g.answers.Add(1)
	}
	return nil
}

// readAnswer reads an answer that has a Content-Length.
func readAnswer(in *bufio.Reader) (status int, err error) {
	length := -1
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		if status == 0 && len(line) > 12 {
			if status, err = strconv.Atoi(line[9:12]); err != nil {
				return 0, err
			}
			continue
		}
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return 0, err
			}
		}
	}
	if length < 0 {
		return 0, errors.New("an answer without Content-Length")
	}
	_, err = io.CopyN(io.Discard, in, int64(length))
	return status, err
}

// startNginx runs the system's nginx as one process.
func startNginx(ctx context.Context, r *run) (*server, error) {
	binary, err := exec.LookPath("nginx")
	if err != nil {
		return nil, err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := free.Addr().String()
	free.Close()
	config := filepath.Join(r.dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/nginx.pid; error_log stderr crit;
events { worker_connections 1024; }
http {
	access_log off; keepalive_requests 1000000000; client_body_temp_path %[1]s/nginx-body;
	server {
		listen %[2]s;
		location = /healthz { default_type text/plain; return 200 "ok\n"; }
		location / { default_type application/problem+json; return 401 '{"status":401,"title":"Unauthorized","code":"token-missing"}'; }
	}
}
`, r.dir, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s, err := start("nginx", exec.CommandContext(ctx, "sh", "-c", "echo listening on http://"+address+" >&2; exec "+binary+" -c "+config))
	if err != nil {
		return nil, err
	}
	for range 100 { // it says nothing when it listens
		if conn, err := new(net.Dialer).DialContext(ctx, "tcp", address); err == nil {
			conn.Close()
			return s, nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			break
		}
	}
	s.kill()
	return nil, errors.New("nginx does not listen")
}
