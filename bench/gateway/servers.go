package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// setup is what a part wants of a server.
type setup struct {
	upstream string   // host:port
	core     string   // the one that the server may use; "" is any
	env      []string // of ours
	events   bool     // ours follows events, and a token is made
}

// start runs a server by the name it has in the tables.
func (r *run) start(ctx context.Context, name string, with setup) (*server, error) {
	switch name {
	case "chappe":
		return r.startChappe(ctx, with)
	case "nginx":
		return r.startNginx(ctx, with, "")
	case "nginx-lock":
		return r.startNginx(ctx, with, "proxy_cache_lock on;")
	case "nginx-files":
		return r.startNginx(ctx, with, "open_file_cache max=1000 inactive=10m; open_file_cache_valid 10m;")
	case "varnish":
		return r.startVarnish(ctx, with)
	case "seed":
		return r.startSeed(ctx, with)
	}
	return nil, fmt.Errorf("there is no server %s", name)
}

// command is what runs a program on the core of the setup.
func (with setup) command(command ...string) []string {
	if with.core == "" {
		return command
	}
	return append([]string{"taskset", "-c", with.core}, command...)
}

func (r *run) startChappe(ctx context.Context, with setup) (*server, error) {
	dir, err := os.MkdirTemp(r.dir, "chappe-")
	if err != nil {
		return nil, err
	}
	events := ""
	if with.events {
		events = `, tag: "t:{query.g}", refresh_on: "bench/**", refresh_tag: "t:{data.g}", topic: "out/bench"`
	}
	text := fmt.Sprintf(`server: {console: /_chappe}
limits: {per_address: 2000}
cache: {size: 64MiB}
routes:
  - {name: bench, path: "/", upstream: "http://%s", ttl: 5m%s}
`, with.upstream, events)
	config := filepath.Join(dir, "chappe.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	where := []string{"--data", filepath.Join(dir, "data"), "--config", config}
	s, err := launch(ctx, "chappe", with.command(append([]string{r.binary, "serve", "--listen", "127.0.0.1:0"}, where...)...), dir, with.env, func(said string) string {
		_, address, _ := strings.Cut(said, "listening on http://")
		address, _, _ = strings.Cut(address, "\n")
		return address
	})
	if err != nil || !with.events {
		return s, err
	}
	args := append([]string{"token", "api", "--name", "bench", "--scopes", "publish,read,admin"}, where...)
	token, err := exec.CommandContext(ctx, r.binary, args...).Output()
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("make a token: %w", err)
	}
	s.token = strings.TrimSpace(string(token))
	return s, nil
}

// startNginx runs one worker, with a cache in memory that holds what 64 MiB hold.
func (r *run) startNginx(ctx context.Context, with setup, more string) (*server, error) {
	binary, err := installed("nginx")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(r.memory, "nginx-")
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf(`user root; worker_processes 1; worker_rlimit_nofile 16384; daemon off; pid %[1]s/pid; error_log stderr crit;
events { worker_connections 8192; }
http {
	access_log off; sendfile off; keepalive_requests 1000000000;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
	proxy_cache_path %[1]s/cache levels=1:2 keys_zone=bench:64m max_size=64m use_temp_path=off;
	upstream api { server %[2]s; keepalive 64; }
	server {
		listen %[3]s backlog=4096;
		location / {
			proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";
			proxy_cache bench; proxy_cache_valid 200 5m; %[4]s
		}
	}
}
`, dir, with.upstream, address, more)
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return launch(ctx, "nginx", with.command(binary, "-e", "stderr", "-c", config), dir, nil, listens(address))
}

// startVarnish runs it as it comes; its working folder is in memory, as it asks for.
func (r *run) startVarnish(ctx context.Context, with setup) (*server, error) {
	binary, err := installed("varnishd", "varnish")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(r.memory, "varnish-")
	if err != nil {
		return nil, err
	}
	args := []string{"-F", "-j", "none", "-n", dir, "-a", address, "-b", with.upstream, "-s", "malloc,64m"}
	return launch(ctx, "varnish", with.command(append([]string{binary}, args...)...), dir, nil, listens(address))
}

// startSeed runs this binary as the article's program.
func (r *run) startSeed(ctx context.Context, with setup) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return launch(ctx, "seed", with.command(self, "-seed", with.upstream, address), r.dir, nil, listens(address))
}

// installed finds a program, or says which Debian package has it.
func installed(program string, debianPackage ...string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("apt-get install %s: %w", append(debianPackage, program)[0], err)
	}
	return path, nil
}
