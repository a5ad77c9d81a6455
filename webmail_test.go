//go:build integration

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/chappe/chappe/internal/dovecot"
)

// webmail is examples/webmail at work: a Dovecot, Chappe, the site, and an
// nginx that stands before both in several ways.
type webmail struct {
	t       *testing.T
	dovecot *dovecot.Server
	chappe  *instance
	nginx   *process
	front   map[string]string // addresses of the nginx, by how it passes on
}

// fronts are the ways in which nginx stands before Chappe: what to change in
// the example's configuration, and the transport that gets through.
var fronts = []struct {
	name, transport string
	change          func(config string) string
}{
	{"as in the example", "websocket", func(config string) string { return config }},
	{"mounted below a path", "websocket", func(config string) string {
		return strings.NewReplacer(
			"location /v1/ {", "location /chappe/ {",
			"location = /chappe.js {", "location = /chappe.js { return 302 /chappe/chappe.js; }\n\t\tlocation = /not-there {",
		).Replace(config)
	}},
	{"bare", "sse", func(config string) string {
		head, _, _ := strings.Cut(config, "location /v1/ {")
		return head + "location /v1/ {\n\t\t\tproxy_pass http://CHAPPE;\n\t\t}\n\t}\n"
	}},
	{"buffering", "poll", func(config string) string {
		head, _, _ := strings.Cut(config, "location /v1/ {")
		return head + "location /v1/ {\n\t\t\tproxy_pass http://CHAPPE;\n\t\t\tproxy_ignore_headers X-Accel-Buffering;\n\t\t}\n\t}\n"
	}},
}

// newWebmail starts it all; settings are added to Dovecot's configuration,
// more to Chappe's.
func newWebmail(t *testing.T, settings, more string) *webmail {
	t.Helper()
	w := &webmail{t: t, dovecot: dovecot.Start(t, settings, "alice", "bob"), front: map[string]string{}}
	folder := t.TempDir()
	site := freeAddress(t)
	for _, f := range fronts {
		w.front[f.name] = freeAddress(t)
	}
	password := filepath.Join(folder, "alice.pw")
	write(t, password, dovecot.Password+"\n")
	w.chappe = newInstance(t, strings.NewReplacer(
		"  # base_url: https://mail.example", "  base_url: http://"+w.front["mounted below a path"]+"/chappe",
		"127.0.0.1:6543", site,
		"imap://alice@127.0.0.1/", "imap://alice@"+w.dovecot.IMAP+"/",
		"alice.pw", password,
	).Replace(read(t, "examples/webmail/chappe.yaml"))+more)

	binary := filepath.Join(folder, "webmail")
	if out, err := exec.Command("go", "build", "-o", binary, "./examples/webmail").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	startProcess(t, site, binary, "-listen", site, "-imap", w.dovecot.IMAP)
	write(t, filepath.Join(folder, "nginx.conf"), w.nginxConfig(site))
	w.nginx = startProcess(t, w.front["bare"], "nginx", "-p", folder, "-c", "nginx.conf")
	return w
}

// nginxConfig is the example's, with a server for each front.
func (w *webmail) nginxConfig(site string) string {
	head, server, _ := strings.Cut(read(w.t, "examples/webmail/nginx.conf"), "\tserver {")
	server, _, _ = strings.Cut(server, "\n\t}\n")
	var b strings.Builder
	b.WriteString(strings.Replace(head, "http {", "http {\n\tclient_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;", 1))
	for _, f := range fronts {
		b.WriteString(strings.NewReplacer(
			"127.0.0.1:8000", w.front[f.name], "127.0.0.1:8080", w.chappe.address, "CHAPPE", w.chappe.address, "127.0.0.1:6543", site,
		).Replace(f.change("\tserver {" + server + "\n\t}\n")))
	}
	return b.String() + "}\n"
}

// process is a server that can be killed and started again.
type process struct {
	t       *testing.T
	address string
	args    []string
	cmd     *exec.Cmd
}

// startProcess starts a program and returns when it listens.
func startProcess(t *testing.T, address string, args ...string) *process {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Fatalf("%s is missing: install the Debian package of that name", args[0])
	}
	p := &process{t: t, address: address, args: args}
	t.Cleanup(p.kill)
	p.start()
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		if conn, err := net.Dial("tcp", p.address); err == nil {
			conn.Close()
			return
		}
	}
	p.t.Fatalf("%s does not listen", p.args[0])
}

// kill ends it, and its workers, as a power failure would.
func (p *process) kill() {
	if p.cmd != nil {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// mailPage is the webmail's page in a browser.
type mailPage struct {
	t   *testing.T
	ctx context.Context
}

// open logs in, and returns when the page is told by the transport.
func (w *webmail) open(browser context.Context, front, transport string) *mailPage {
	w.t.Helper()
	ctx, _ := chromedp.NewContext(browser, chromedp.WithNewWindow(true)) // ends with the browser
	p := &mailPage{w.t, ctx}
	name := chromedp.CSS("[name=name]")
	err := chromedp.Do(ctx, chromedp.Navigate("http://"+w.front[front]+"/"))
	if err == nil && p.evaluate(`document.querySelector("[name=name]") ? "form" : ""`) == "form" {
		err = chromedp.Do(ctx, chromedp.SendKeys(name, "alice"),
			chromedp.SendKeys(chromedp.CSS("[name=password]"), dovecot.Password), chromedp.Submit(name))
	}
	if err != nil {
		w.t.Fatalf("%s: %v", front, err)
	}
	p.await(`document.getElementById("state")?.textContent`, "told by "+transport)
	p.evaluate(`window.same = "yes", ""`)
	return p
}

func (p *mailPage) evaluate(script string) string {
	p.t.Helper()
	got, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](script))
	if err != nil {
		p.t.Fatalf("%s: %v", script, err)
	}
	return got
}

// await waits until the script's text is as wanted.
func (p *mailPage) await(script, want string) {
	p.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var got string
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		// An error is a page that is being loaded.
		if got, err = chromedp.Run(p.ctx, chromedp.Evaluate[string]("String("+script+")")); err == nil && got == want {
			return
		}
	}
	p.t.Fatalf("%s never was %q: it is %q, %v", script, want, got, err)
}

// subjects of the mails shown, the oldest first.
const subjects = `[...document.querySelectorAll("#mails b")].map((b) => b.textContent).reverse().join("|")`

// The first seed's page: a mail shows at once, on each transport, and whatever
// is killed, each mail shows once without a reload.
func TestIntegrationWebmail(t *testing.T) {
	w := newWebmail(t, "", "")
	ctx, stop := browser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	tabs := map[string]*mailPage{}
	for _, f := range fronts {
		tabs[f.name] = w.open(ctx, f.name, f.transport)
	}
	var shown []string
	deliver := func(subject string) {
		t.Helper()
		shown = append(shown, subject)
		w.dovecot.Deliver("alice", subject)
	}
	all := func(when string) {
		t.Helper()
		for _, f := range fronts {
			p := tabs[f.name]
			p.await(subjects, strings.Join(shown, "|"))
			p.await(`document.title`, fmt.Sprintf("(%d) Mail", len(shown)))
			if p.evaluate(`window.same ?? "no"`) != "yes" {
				t.Errorf("%s, %s: the page was loaded anew", when, f.name)
			}
		}
	}

	delays := map[string][]time.Duration{}
	for n := range 5 {
		began := time.Now()
		deliver(fmt.Sprint("mail ", n))
		var waiting sync.WaitGroup
		var mu sync.Mutex
		for _, f := range fronts {
			waiting.Go(func() {
				tabs[f.name].await(subjects, strings.Join(shown, "|"))
				mu.Lock()
				defer mu.Unlock()
				delays[f.name] = append(delays[f.name], time.Since(began))
			})
		}
		waiting.Wait()
	}
	for _, f := range fronts {
		slices.Sort(delays[f.name])
		median := delays[f.name][2]
		t.Logf("nginx %s, told by %s: delivered to shown %v (500 ms of it are Dovecot's)", f.name, f.transport, median.Round(time.Millisecond))
		if median > time.Second {
			t.Errorf("%s: a mail shows after %v, want it within a second", f.name, median)
		}
	}

	w.chappe.kill()
	deliver("while the server is down")
	w.chappe.start()
	all("after the kill of the server")

	w.dovecot.Kill()
	w.dovecot.Start()
	deliver("after Dovecot was killed")
	all("after the kill of Dovecot")

	w.nginx.kill()
	deliver("while nginx is down")
	w.nginx.start()
	all("after the kill of nginx")

	w.dovecot.Do("alice", `STORE 1:* +FLAGS (\Seen)`)
	for _, f := range fronts {
		tabs[f.name].await(`document.title`, "Mail")
	}
	if err := chromedp.Do(tabs["bare"].ctx, shot("webmail-phone", 360, 740), shot("webmail-desk", 1280, 800)); err != nil {
		t.Error(err)
	}
	for _, text := range stop() {
		if !strings.Contains(text, "ERR_") && !strings.Contains(text, "502") && !strings.Contains(text, "WebSocket connection to") {
			t.Errorf("the browser complains: %s", text)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
