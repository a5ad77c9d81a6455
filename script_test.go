package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"chappe": main})
}

// The scripts use the program as its users do.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": cmdServe, "halt": cmdStop, "get": cmdGet, "await": cmdAwait, "files": cmdFiles, "setenv": cmdSetenv, "mode": cmdMode, "spawn": cmdSpawn, "awaitget": cmdAwaitGet, "post": cmdPost, "certificate": cmdCertificate,
		},
	})
}

// chappe is the program under test, with the script's environment.
func chappe(ts *testscript.TestScript, args []string) *exec.Cmd {
	path, err := exec.LookPath("chappe")
	ts.Check(err)
	cmd := exec.Command(path, args...)
	cmd.Dir = ts.Getenv("WORK")
	cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"))
	return cmd
}

// spawn FILE ARGS... runs chappe until the script ends, its output in FILE.
func cmdSpawn(ts *testscript.TestScript, neg bool, args []string) {
	out, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	cmd := chappe(ts, args[1:])
	cmd.Stdout, cmd.Stderr = out, out
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		_ = out.Close()
	})
}

// serve starts chappe serve on a free port, waits until it is ready, and sets
// $URL. The rest of its arguments go to the program.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if !strings.Contains(strings.Join(args, " "), "--listen") {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	cmd := chappe(ts, append([]string{"serve"}, args...))
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
	}
	ts.Defer(stop)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if address, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			ts.Setenv("URL", address)
		}
		if _, setup, ok := strings.Cut(lines.Text(), "?setup="); ok {
			ts.Setenv("SETUP", setup)
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }() // ends with the process
	if ts.Getenv("URL") == "" {
		ts.Fatalf("the server did not start")
	}
	ts.Setenv("PID", fmt.Sprint(cmd.Process.Pid))
}

// halt ends the server by a signal and waits until it has gone.
func cmdStop(ts *testscript.TestScript, neg bool, args []string) {
	name := syscall.SIGTERM
	if len(args) == 1 && args[0] == "-9" {
		name = syscall.SIGKILL
	}
	var pid int
	_, err := fmt.Sscan(ts.Getenv("PID"), &pid)
	ts.Check(err)
	ts.Check(syscall.Kill(pid, name))
	network, address := "tcp", ts.Getenv("URL")
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	address = strings.TrimPrefix(strings.TrimPrefix(address, "http://"), "https://")
	deadline := time.Now().Add(15 * time.Second)
	for time.Now().Before(deadline) {
		conn, err := net.Dial(network, address)
		if err != nil {
			if lockFree(filepath.Join(ts.Getenv("WORK"), "data", "lock")) {
				return
			}
			continue
		}
		_ = conn.Close()
	}
	ts.Fatalf("the server is still there")
}

func lockFree(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil
}

// certificate NAME CERT KEY makes a certificate for a name, and its key.
func cmdCertificate(ts *testscript.TestScript, neg bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: args[:1], NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	for name, block := range map[string]*pem.Block{args[1]: {Type: "CERTIFICATE", Bytes: cert}, args[2]: {Type: "PRIVATE KEY", Bytes: der}} {
		ts.Check(os.WriteFile(ts.MkAbs(name), pem.EncodeToMemory(block), 0o600))
	}
}

// get [-token T] STATUS PATH fetches from the server; the body becomes stdout's
// file "body".
func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	token := ""
	if len(args) > 2 && args[0] == "-token" {
		token, args = args[1], args[2:]
	}
	if len(args) != 2 {
		ts.Fatalf("usage: get [-token T] status path")
	}
	req, err := http.NewRequest(http.MethodGet, ts.Getenv("URL")+args[1], nil)
	ts.Check(err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("body"), body, 0o600))
	if fmt.Sprint(resp.StatusCode) != args[0] {
		ts.Fatalf("GET %s answered %d, want %s: %s", args[1], resp.StatusCode, args[0], body)
	}
}

// awaitget TOKEN PATH TEXT fetches from the server until the answer contains
// the text.
func cmdAwaitGet(ts *testscript.TestScript, neg bool, args []string) {
	var body string
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		if body = fetch(ts, http.MethodGet, args[1], args[0], nil); strings.Contains(body, args[2]) {
			return
		}
	}
	ts.Fatalf("%s never contained %q: %s", args[1], args[2], body)
}

// post TOKEN FILE publishes the lines of a file.
func cmdPost(ts *testscript.TestScript, neg bool, args []string) {
	body := fetch(ts, http.MethodPost, "/v1/events", args[0], strings.NewReader(ts.ReadFile(args[1])))
	if !strings.Contains(body, `"events":[`) {
		ts.Fatalf("publish answered %s", body)
	}
}

func fetch(ts *testscript.TestScript, method, path, token string, body io.Reader) string {
	req, err := http.NewRequest(method, ts.Getenv("URL")+path, body)
	ts.Check(err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	return string(text)
}

// await FILE TEXT waits until the file contains the text.
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			ts.Check(err)
		}
		if strings.Contains(string(text), args[1]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s never contained %q: %s", args[0], args[1], text)
		}
	}
}

// files FOLDER serves a folder over HTTP and sets $FILES to its address.
func cmdFiles(ts *testscript.TestScript, neg bool, args []string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := &http.Server{Handler: http.FileServer(http.Dir(ts.MkAbs(args[0])))}
	go func() { _ = server.Serve(listener) }() // ended by Close
	ts.Defer(func() { _ = server.Close() })
	ts.Setenv("FILES", "http://"+listener.Addr().String())
}

// setenv NAME FILE sets a variable to the first line of a file.
func cmdSetenv(ts *testscript.TestScript, neg bool, args []string) {
	line, _, _ := strings.Cut(ts.ReadFile(args[1]), "\n")
	ts.Setenv(args[0], line)
}

// mode BITS FILE sets a file's mode.
func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	var mode os.FileMode
	_, err := fmt.Sscanf(args[0], "%o", &mode)
	ts.Check(err)
	ts.Check(os.Chmod(ts.MkAbs(args[1]), mode))
}
