//go:build integration

package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chappe/chappe/internal/dovecot"
)

// The commands that try a mailbox, over TLS.
func TestIntegrationMailboxCommands(t *testing.T) {
	d := dovecot.Start(t, "", "alice")
	d.Deliver("alice", "one that is there")
	in := newInstance(t, "")
	_, port, _ := strings.Cut(d.TLS, ":")
	address := "imaps://alice@localhost:" + port
	tests := []struct {
		name, url, password, cert string
		want                      string
		fails                     bool
	}{
		{"all is well", address, dovecot.Password, d.Cert, `"subject":"one that is there"`, false},
		{"a certificate of nobody", address, dovecot.Password, "", "is not to be trusted", true},
		{"a wrong password", address, "guess", d.Cert, "refused the login", true},
		{"no such folder", address + "/Attic", dovecot.Password, d.Cert, `folder "Attic" cannot be opened`, true},
		{"no TLS on that port", "imaps://alice@" + d.IMAP, dovecot.Password, d.Cert, "does not speak TLS", true},
		{"no IMAP on that port", "imap://alice@" + in.address, dovecot.Password, d.Cert, "before TLS", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), in.binary, "watch", tt.url, "--once", "--json")
			cmd.Dir = in.folder
			cmd.Env = append(os.Environ(), "CHAPPE_PASSWORD="+tt.password)
			if tt.cert != "" {
				cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+tt.cert)
			}
			out, err := cmd.CombinedOutput()
			if (err != nil) != tt.fails || !strings.Contains(string(out), tt.want) {
				t.Errorf("chappe watch %s: %v, want %q in\n%s", tt.url, err, tt.want, out)
			}
			if strings.Contains(string(out), tt.password) {
				t.Errorf("the password is shown:\n%s", out)
			}
		})
	}
}

// A wrong password is tried once, and said why, on the topic and in the list.
func TestIntegrationMailboxParked(t *testing.T) {
	d := dovecot.Start(t, "", "alice")
	password := filepath.Join(t.TempDir(), "alice.pw")
	write(t, password, "guess\n")
	in := newInstance(t, `watches: [{name: alice, topic: mail/alice, imap: "imap://alice@`+d.IMAP+`", password_file: `+password+`}]`)
	token := in.token()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var events []streamed
	for deadline := time.Now().Add(20 * time.Second); len(events) == 0 && time.Now().Before(deadline); <-tick.C {
		events = in.log(token, "mail/alice")
	}
	if len(events) != 1 || !strings.Contains(events[0].data, `"watch.failed"`) || !strings.Contains(events[0].data, "Authentication failed") {
		t.Fatalf("events = %+v, want one that says why", events)
	}
	if tries := strings.Count(d.Log(), "auth failed"); tries != 1 {
		t.Errorf("Dovecot saw %d wrong passwords, want 1:\n%s", tries, d.Log())
	}
	write(t, password, dovecot.Password+"\n")
	in.kill()
	in.start()
	in.awaitWatches(token, `"state":"running"`)
	d.Deliver("alice", "after all")
	for deadline := time.Now().Add(20 * time.Second); len(events) < 2 && time.Now().Before(deadline); <-tick.C {
		events = in.log(token, "mail/alice")
	}
	if len(events) < 2 || !strings.Contains(events[len(events)-1].data, "after all") {
		t.Errorf("after the password was corrected: %+v", events)
	}
}

// awaitWatches waits until the list of watches contains the text.
func (in *instance) awaitWatches(token, text string) {
	in.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var body []byte
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		req, err := http.NewRequestWithContext(in.t.Context(), http.MethodGet, in.url+"/v1/watches", nil)
		if err != nil {
			in.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			body, _ = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if strings.Contains(string(body), text) {
			return
		}
	}
	in.t.Fatalf("the watches never were %s: %s", text, body)
}

// On demand: connected while somebody follows, and what came in between is told.
func TestIntegrationMailboxOnDemand(t *testing.T) {
	d := dovecot.Start(t, "", "alice")
	password := filepath.Join(t.TempDir(), "alice.pw")
	write(t, password, dovecot.Password)
	in := newInstance(t, `watches: [{name: alice, topic: mail/alice, imap: "imap://alice@`+d.IMAP+`", password_file: `+password+`, on_demand: true}]`)
	token := in.token()
	follow := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), in.binary, "tail", "mail/*", "--json", "--server", in.url, "--token", token)
		cmd.Dir = in.folder
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	d.Deliver("alice", "before anybody came")
	in.awaitWatches(token, `"state":"standby"`)
	if strings.Contains(d.Log(), "Login:") {
		t.Fatalf("somebody logged in though nobody follows:\n%s", d.Log())
	}
	tail := follow()
	in.awaitWatches(token, `"state":"running"`)
	in.kill() // ends its lingering, too
	_ = tail.Process.Kill()
	_ = tail.Wait()
	d.Deliver("alice", "while nobody looks")
	in.start()
	logins := strings.Count(d.Log(), "Login: user=<alice>")
	tail = follow()
	defer func() { _ = tail.Process.Kill(); _ = tail.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var events []streamed
	for deadline := time.Now().Add(20 * time.Second); len(events) == 0 && time.Now().Before(deadline); <-tick.C {
		events = in.log(token, "mail/alice")
	}
	if len(events) != 1 || !strings.Contains(events[0].data, "while nobody looks") {
		t.Errorf("events = %+v, want the mail that came in between", events)
	}
	if n := strings.Count(d.Log(), "Login: user=<alice>"); n != logins+1 {
		t.Errorf("%d logins, want one more than %d", n, logins)
	}
}
