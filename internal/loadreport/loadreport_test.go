package loadreport_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chappe/chappe/internal/loadreport"
)

var latency = loadreport.LatencyOf(func(q float64) time.Duration { return time.Duration(q * float64(10*time.Millisecond)) })

func TestPrintConnections(t *testing.T) {
	r := loadreport.Connections{
		Bench: "fanout", Server: "http://127.0.0.1:8080", Transport: "ws", Count: 3, Connected: 2, Refused: 1, Attempts: 3, Connect: 0.5,
		Reasons: map[string]int{"refused: \x1b[31m503": 1}, Fanout: &loadreport.Fanout{Published: 2, Size: 128, Received: 3, Lost: 1, Latency: latency},
		ServerMessageCPU: new(12.34),
	}
	if err := r.End(1, map[string]int{"reset": 1}, 2*time.Second); err == nil || err.Error() != "1 messages were lost" {
		t.Errorf("End = %v", err)
	}
	same(t, r.Print, false, `server      http://127.0.0.1:8080
connected   2 of 3 (ws) in 0.50 s, 3 attempts
refused     1
ended       1
            1: refused: [31m503
            1: reset
published   2 of 128 bytes
received    3, 1 lost, 0 doubled
latency     p50 5.0 ms, p90 9.0 ms, p99 9.9 ms, max 10.0 ms
            12.3 us for a message received
client CPU  2.00 s
`)
	same(t, r.Print, true, `{"bench":"fanout","server":"http://127.0.0.1:8080","transport":"ws","count":3,"connected":2,"refused":1,"ended":1,`+
		`"reasons":{"refused: \u001b[31m503":1,"reset":1},"attempts":3,"connect_seconds":0.5,`+
		`"fanout":{"published":2,"size":128,"received":3,"lost":1,"doubled":0,"p50_ms":5,"p90_ms":9,"p99_ms":9.9,"max_ms":10},`+
		`"client_cpu_seconds":2,"server_cpu_us_per_message":12.34}`+"\n")
}

func TestPrintRequests(t *testing.T) {
	r := loadreport.Requests{
		Bench: "gateway", URL: "http://127.0.0.1:8080/a", Count: 2, Seconds: 2, Requests: 10, PerSecond: 5, Failed: 1,
		Reasons: map[string]int{"reset": 1}, Statuses: map[int]uint64{200: 9, 503: 1}, Cached: 8, Bytes: 90, Latency: latency,
		ServerCPU: new(0.25), ClientCPU: 1,
	}
	same(t, r.Print, false, `url         http://127.0.0.1:8080/a
requests    10 in 2.00 s, 5 a second (2 connections)
            9: status 200
            1: status 503
failed      1
            1: reset
cached      8
bytes       90
latency     p50 5.0 ms, p90 9.0 ms, p99 9.9 ms, max 10.0 ms
server CPU  0.25 s for 10,000 requests
client CPU  1.00 s
`)
	same(t, r.Print, true, `{"bench":"gateway","url":"http://127.0.0.1:8080/a","count":2,"seconds":2,"requests":10,"requests_per_second":5,"failed":1,`+
		`"reasons":{"reset":1},"statuses":{"200":9,"503":1},"cached":8,"bytes":90,"p50_ms":5,"p90_ms":9,"p99_ms":9.9,"max_ms":10,`+
		`"client_cpu_seconds":1,"server_cpu_seconds_per_10000_requests":0.25}`+"\n")
}

func same(t *testing.T, print func(io.Writer, bool) error, asJSON bool, want string) {
	t.Helper()
	var b strings.Builder
	if err := print(&b, asJSON); err != nil || b.String() != want {
		t.Errorf("Print(asJSON %v) = %v:\n%s\nwant\n%s", asJSON, err, b.String(), want)
	}
}

func TestEnd(t *testing.T) {
	for want, r := range map[string]loadreport.Connections{
		"":                        {Connected: 1, Refused: 5, Fanout: &loadreport.Fanout{}},
		"nobody could connect":    {},
		"2 messages were lost":    {Connected: 1, Ended: 3, Fanout: &loadreport.Fanout{Lost: 2}},
		"3 connections were lost": {Connected: 1, Ended: 3},
	} {
		said(t, r.End(0, nil, 0), want)
	}
	for want, r := range map[string]loadreport.Requests{
		"":                        {Requests: 1},
		"no request was answered": {Failed: 1},
		"1 requests failed":       {Requests: 1, Failed: 1},
	} {
		said(t, r.Err(), want)
	}
}

func said(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
		t.Errorf("the error is %v, want %q", err, want)
	}
}

func TestReadUsage(t *testing.T) {
	read := func(cpu, rss string) (loadreport.Usage, error) {
		return loadreport.ReadUsage(t.Context(), "http://127.0.0.1:8080", func(r *http.Request) (*http.Response, error) {
			if r.URL.String() != "http://127.0.0.1:8080/metrics" {
				t.Errorf("asked %s", r.URL)
			}
			body := "# HELP x y\nprocess_cpu_seconds_total " + cpu + "\nprocess_resident_memory_bytes " + rss + "\n"
			return &http.Response{Body: io.NopCloser(strings.NewReader(body))}, nil
		})
	}
	began, err := read("1.5", "1e+06")
	if err != nil {
		t.Fatal(err)
	}
	ended, err := read("2", "3e+06")
	if err != nil {
		t.Fatal(err)
	}
	if got := ended.CPU(began, 100, 10_000); got == nil || *got != 50 {
		t.Errorf("CPU for 10,000 = %v, want 50", got)
	}
	if got := ended.RSS(began, 1000); got == nil || *got != 2000 {
		t.Errorf("RSS of each = %v, want 2000", got)
	}
	if ended.CPU(loadreport.Usage{}, 1, 1) != nil || ended.RSS(began, 0) != nil {
		t.Error("what is not known is told")
	}
	failed := errors.New("no")
	if _, err := loadreport.ReadUsage(t.Context(), "", func(*http.Request) (*http.Response, error) { return nil, failed }); err != failed {
		t.Errorf("ReadUsage = %v, want the error of do", err)
	}
	if _, err := read("a", "b"); err == nil {
		t.Error("what is no number is taken")
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		(&loadreport.Progress{}).Show("nowhere")
		var b strings.Builder
		p := loadreport.Progress{Terminal: &b}
		p.Show("%d of 2", 1)
		p.Show("too soon")
		time.Sleep(time.Second)
		p.Show("%d of 2", 2)
		p.Clear()
		if want := "\r\x1b[K1 of 2\r\x1b[K2 of 2\r\x1b[K"; b.String() != want {
			t.Errorf("it showed %q, want %q", b.String(), want)
		}
	})
}
