package loadreport

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answerWait is for the server to say what it uses.
const answerWait = 5 * time.Second

// Usage is what the server's process has used. The zero value is not known.
type Usage struct {
	known    bool
	cpu, rss float64 // seconds, bytes
}

// ReadUsage asks the server's /metrics, which show what /proc does: the CPU
// time in steps of 10 ms. An error of do is returned as it is.
func ReadUsage(ctx context.Context, server string, do func(*http.Request) (*http.Response, error)) (u Usage, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/metrics", nil)
	if err != nil {
		return u, fmt.Errorf("ask for the metrics: %w", err)
	}
	resp, err := do(req)
	if err != nil {
		return u, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		switch name, value, _ := strings.Cut(lines.Text(), " "); name {
		case "process_cpu_seconds_total":
			u.cpu, err = strconv.ParseFloat(value, 64)
		case "process_resident_memory_bytes":
			u.rss, err = strconv.ParseFloat(value, 64)
		}
	}
	u.known = err == nil && u.rss > 0
	return u, err
}

// CPU is the CPU time since began, in seconds, for each of n times scale; nil
// if it is not known.
func (u Usage) CPU(began Usage, n int, scale float64) *float64 {
	return per(u.cpu-began.cpu, n, scale, began.known && u.known)
}

// RSS is what the memory grew by since began, in bytes, for each of n; nil if
// it is not known.
func (u Usage) RSS(began Usage, n int) *float64 {
	return per(u.rss-began.rss, n, 1, began.known && u.known)
}

func per(used float64, n int, scale float64, known bool) *float64 {
	if !known || n < 1 {
		return nil
	}
	return new(used / float64(n) * scale)
}
