// Package loadreport is what a bench tells of a server that it loaded: what
// became of the connections or requests, how long they took, and what the
// server's process used, by its own metrics. A report is printed as a table or
// as one JSON object, whose names are stable; what is not known is left out.
// [Progress] is the line that is shown until then.
//
// It measures nothing but the server's use; who makes the load counts and times
// (internal/swarm).
package loadreport

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/chappe/chappe/internal/terminal"
)

// Connections is of connections that wait, and of messages to them.
type Connections struct {
	Bench     string         `json:"bench"`
	Server    string         `json:"server"`
	Transport string         `json:"transport"`
	Count     int            `json:"count"`
	Connected int            `json:"connected"`
	Refused   int            `json:"refused"`
	Ended     int            `json:"ended"`             // had been connected
	Reasons   map[string]int `json:"reasons,omitempty"` // of those refused and ended
	Attempts  uint64         `json:"attempts"`
	Connect   float64        `json:"connect_seconds"` // until the last was connected
	Fanout    *Fanout        `json:"fanout,omitempty"`
	ClientCPU float64        `json:"client_cpu_seconds"`

	// By the server's own metrics, for whose token has the scope admin.
	ServerUpgradeCPU *float64 `json:"server_cpu_seconds_per_10000_upgrades,omitempty"` // attempts, refused ones too
	ServerRSS        *float64 `json:"server_rss_bytes_per_session,omitempty"`
	ServerMessageCPU *float64 `json:"server_cpu_us_per_message,omitempty"`
}

// Fanout is of messages to connections that follow.
type Fanout struct {
	Published int    `json:"published"`
	Size      int    `json:"size"`
	Received  uint64 `json:"received"`
	Lost      int64  `json:"lost"`
	Doubled   uint64 `json:"doubled"`
	Latency
}

// Requests is of requests, one after the other on each of some connections.
type Requests struct {
	Bench     string         `json:"bench"`
	URL       string         `json:"url"`
	Count     int            `json:"count"`   // connections
	Seconds   float64        `json:"seconds"` // from the first request until the last answer
	Requests  uint64         `json:"requests"`
	PerSecond float64        `json:"requests_per_second"`
	Failed    uint64         `json:"failed"`            // besides those that were answered
	Reasons   map[string]int `json:"reasons,omitempty"` // of those
	Statuses  map[int]uint64 `json:"statuses,omitempty"`
	Cached    uint64         `json:"cached"` // answers that a cache of chappe had
	Bytes     uint64         `json:"bytes"`  // of the bodies
	Latency
	ClientCPU float64 `json:"client_cpu_seconds"`

	// By the server's own metrics, for whose token has the scope admin.
	ServerCPU *float64 `json:"server_cpu_seconds_per_10000_requests,omitempty"`
}

// Latency is in milliseconds.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// LatencyOf asks for the quantiles, from 0 to 1.
func LatencyOf(quantile func(q float64) time.Duration) Latency {
	ms := func(q float64) float64 { return float64(quantile(q).Microseconds()) / 1000 }
	return Latency{ms(0.5), ms(0.9), ms(0.99), ms(1)}
}

// End adds what became of connections after they were connected, and says what
// was lost.
func (r *Connections) End(ended uint64, reasons map[string]int, clientCPU time.Duration) error {
	r.Ended += int(ended)
	for reason, n := range reasons {
		if r.Reasons == nil {
			r.Reasons = map[string]int{}
		}
		r.Reasons[reason] += n
	}
	r.ClientCPU = clientCPU.Seconds()
	switch {
	case r.Connected == 0:
		return errors.New("nobody could connect")
	case r.Fanout != nil && r.Fanout.Lost > 0:
		return fmt.Errorf("%d messages were lost", r.Fanout.Lost)
	case r.Ended > 0:
		return fmt.Errorf("%d connections were lost", r.Ended)
	}
	return nil
}

// Err says what was not answered.
func (r *Requests) Err() error {
	switch {
	case r.Requests == 0:
		return errors.New("no request was answered")
	case r.Failed > 0:
		return fmt.Errorf("%d requests failed", r.Failed)
	}
	return nil
}

// Print writes the report.
func (r *Connections) Print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	t := newTable(w)
	t.row("server", "%s", r.Server)
	t.row("connected", "%d of %d (%s) in %.2f s, %d attempts", r.Connected, r.Count, r.Transport, r.Connect, r.Attempts)
	t.row("refused", "%d", r.Refused)
	t.row("ended", "%d", r.Ended)
	t.reasons(r.Reasons)
	if f := r.Fanout; f != nil {
		t.row("published", "%d of %d bytes", f.Published, f.Size)
		t.row("received", "%d, %d lost, %d doubled", f.Received, f.Lost, f.Doubled)
		t.latency(f.Latency)
	}
	t.known("server CPU", "%.2f s for 10,000 upgrades", r.ServerUpgradeCPU)
	t.known("", "%.1f us for a message received", r.ServerMessageCPU)
	t.known("server RSS", "%.0f bytes a session", r.ServerRSS)
	t.row("client CPU", "%.2f s", r.ClientCPU)
	return t.Flush()
}

// Print writes the report.
func (r *Requests) Print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	t := newTable(w)
	t.row("url", "%s", terminal.Printable(r.URL))
	t.row("requests", "%d in %.2f s, %.0f a second (%d connections)", r.Requests, r.Seconds, r.PerSecond, r.Count)
	for _, status := range slices.Sorted(maps.Keys(r.Statuses)) {
		t.row("", "%d: status %d", r.Statuses[status], status)
	}
	t.row("failed", "%d", r.Failed)
	t.reasons(r.Reasons)
	t.row("cached", "%d", r.Cached)
	t.row("bytes", "%d", r.Bytes)
	t.latency(r.Latency)
	t.known("server CPU", "%.2f s for 10,000 requests", r.ServerCPU)
	t.row("client CPU", "%.2f s", r.ClientCPU)
	return t.Flush()
}

// table has a name and a value in each row.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (t table) row(name, format string, values ...any) {
	fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, values...))
}

func (t table) known(name, format string, value *float64) {
	if value != nil {
		t.row(name, format, *value)
	}
}

func (t table) reasons(reasons map[string]int) {
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		t.row("", "%d: %s", reasons[reason], terminal.Printable(reason))
	}
}

func (t table) latency(l Latency) {
	t.row("latency", "p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms", l.P50, l.P90, l.P99, l.Max)
}
