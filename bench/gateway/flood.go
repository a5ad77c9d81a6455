package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"time"
)

// floodTime is when the flood is given up.
const floodTime = 290 * time.Second

// measureFlood asks for ever new URLs, so that each must be let in and another out.
func measureFlood(ctx context.Context, r *run) error {
	fmt.Printf(`
### Flood: %d distinct URLs of some 100 bytes through a cache of 64 MiB, %d connections

chappe runs with GOMEMLIMIT=150MiB. nginx keeps bodies in files: its RSS is that of its processes, with the keys' shared memory (64m)
in each that touched it, and its files (max_size=64m, of 4 KiB each) come on top. RSS at the end is
1 s after.

`, r.urls, askers)
	t := r.newTable("flood", "<= 180 MiB, 0 failed", "largest RSS", "RSS at the end", "files at the end", "answers", "failed", "took", "requests/s")
	return t.each(ctx, []string{"nginx", "chappe"}, func(name string) ([]string, error) { return flood(ctx, r, name) })
}

func flood(ctx context.Context, r *run, name string) ([]string, error) {
	u, err := serveUpstream(func(w http.ResponseWriter, req *http.Request) { document(w, req, 1) })
	if err != nil {
		return nil, err
	}
	defer u.close()
	s, err := r.start(ctx, name, setup{upstream: u.address, env: []string{"GOMEMLIMIT=150MiB"}})
	if err != nil {
		return nil, err
	}
	defer s.stop()
	began := time.Now()
	var result askResult
	if err := runClient(ctx, "ask", askOrder{s.address, "/f/%d", r.urls, floodTime}, &result); err != nil {
		return nil, err
	}
	took := time.Since(began)
	files := kept(s.cmd.Dir)
	time.Sleep(time.Second)
	now, most, err := s.resident() // the kernel has kept the largest
	if err != nil {
		return nil, err
	}
	failed := fmt.Sprint(result.Failures)
	if result.Failures > 0 {
		failed += ": " + result.Failure
	}
	answers := fmt.Sprint(result.Answers)
	if result.Answers+result.Failures < r.urls {
		answers += fmt.Sprintf(" (given up after %v)", floodTime)
	}
	if int(u.requests.Load()) < result.Answers {
		return nil, fmt.Errorf("%d answers of %d from the upstream", result.Answers, u.requests.Load())
	}
	return []string{
		mib(most), mib(now), files, answers, failed,
		took.Round(time.Second).String(), fmt.Sprintf("%.0f", float64(result.Answers)/took.Seconds()),
	}, nil
}

// kept is what the files below nginx's cache take, of 4 KiB each at least.
func kept(dir string) string {
	pages := 0
	_ = filepath.WalkDir(filepath.Join(dir, "cache"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // it goes while we look, or there is no such folder
		}
		if info, err := e.Info(); err == nil {
			pages += int(info.Size()+4095) / 4096
		}
		return nil
	})
	if pages == 0 {
		return ""
	}
	return mib(pages * 4096)
}
