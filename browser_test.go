//go:build integration

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// browser starts Chromium. Stop ends it and returns what its console and its
// security checks complained about.
func browser(t *testing.T) (ctx context.Context, stop func() []string) {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: install the Debian package chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true))
	allocator, stopAllocator := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	messages := chromedp.Console(ctx)
	var complaints []string
	var listening sync.WaitGroup
	listening.Go(func() {
		for m, err := range messages {
			if err != nil {
				return // the browser has ended
			}
			complaints = append(complaints, fmt.Sprint(m))
		}
	})
	stop = sync.OnceValue(func() []string {
		cancel()
		stopAllocator()
		listening.Wait()
		return complaints
	})
	t.Cleanup(func() { stop() })
	return ctx, stop
}

// shot saves a screenshot for people to look at.
func shot(name string, width, height int64) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := chromedp.EmulateViewport(width, height)(ctx, target); err != nil {
			return err
		}
		picture, err := chromedp.FullScreenshot(100)(ctx, target)
		if err == nil {
			err = os.MkdirAll("artifacts", 0o755)
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join("artifacts", name+".png"), picture, 0o644)
	})
}

// showing waits until the page's events contain the text.
func showing(text string) chromedp.Action[chromedp.Void] {
	script := fmt.Sprintf(`new Promise(done => {
		const look = () => document.querySelector("#events")?.innerText.includes(%q) ? done(true) : setTimeout(look, 20);
		look();
	})`, text)
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if _, err := chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise)(ctx, target); err != nil {
			return fmt.Errorf("the page never showed %q: %w", text, err)
		}
		return nil
	})
}

// The page asks for the printed token, then shows events as they come, also
// those of a hostile publisher, and goes on after the server was killed.
func TestIntegrationLivePage(t *testing.T) {
	in := newInstance(t, "")
	token := in.token()
	ctx, stop := browser(t)
	publish := func(body string) chromedp.Action[chromedp.Void] {
		return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := in.publish(ctx, token, []byte(body))
			return err
		})
	}
	field := chromedp.CSS("#token")
	err := chromedp.Do(ctx,
		chromedp.Navigate(in.url+"/"),
		chromedp.WaitVisible(field),
		shot("login-phone", 360, 740), shot("login-desk", 1280, 800),
		chromedp.SendKeys(field, "wrong"),
		chromedp.Submit(field),
		chromedp.WaitVisible(chromedp.CSS(".notice-fail")),
		chromedp.Navigate(in.url+"/?setup="+in.setup),
		chromedp.WaitVisible(field),
		chromedp.Submit(field),
		chromedp.WaitVisible(chromedp.CSS("#empty")),
		shot("live-empty-desk", 1280, 800),
		publish(`{"topic":"demo/hello","data":{"n":1}}`),
		showing("demo/hello"),
		publish(`[{"topic":"feeds/blog","type":"feed.entry","data":{"title":"A title of an entry"}},
			{"topic":"evil/x","subject":"<script>document.title='taken'</script>","data":"<img src=x onerror=alert(1)>"}]`),
		showing("A title of an entry"),
		showing("<script>"),
		shot("live-phone", 360, 740), shot("live-desk", 1280, 800),
	)
	if err != nil {
		t.Fatal(err)
	}
	title, err := chromedp.Run(ctx, chromedp.Title())
	if err != nil || title != "Live - Chappe" {
		t.Errorf("the title is %q, %v", title, err)
	}
	empty, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.querySelector("#empty").checkVisibility()`))
	if err != nil || empty {
		t.Errorf("the page still says that there is no event: %v, %v", empty, err)
	}
	word, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("#live-word")))
	if err != nil || word != "Live" {
		t.Errorf("the live line says %q, %v", word, err)
	}

	in.kill()
	in.start()
	err = chromedp.Do(ctx,
		publish(`{"topic":"demo/after","data":2}`), showing("demo/after"),
		chromedp.Navigate(in.url+"/?topic=demo/*"), showing("demo/hello"))
	if err != nil {
		t.Fatal(err)
	}
	others, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.body.innerText.includes("feeds/blog")`))
	if err != nil || others {
		t.Errorf("the filter shows other topics: %v, %v", others, err)
	}
	for _, text := range stop() {
		if !strings.Contains(text, "ERR_") && !strings.Contains(text, "403") { // the kill, and the wrong token
			t.Errorf("the browser complains: %s", text)
		}
	}
}
