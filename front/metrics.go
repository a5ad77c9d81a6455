package front

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chappe/chappe/internal/loop"
)

type metrics struct {
	handshakes *prometheus.CounterVec
	requests   [3]prometheus.Counter
	refused    *prometheus.CounterVec
	late       prometheus.Histogram
	panics     prometheus.Counter
}

// Who answered a request.
const (
	byLoop = iota
	byNetHTTP
	byPrepared
)

func newMetrics(r prometheus.Registerer, loops func() []*loop.Loop) *metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "chappe_requests_total", Help: "Requests, by who handled them."}, []string{"by"})
	m := &metrics{
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_tls_handshakes_total", Help: "TLS handshakes, by outcome."}, []string{"outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_connections_refused_total", Help: "Connections ended before a request was handled, by reason."}, []string{"reason"}),
		late: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chappe_loop_lag_seconds", Help: "How late the event loop came to what was due.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_panics_total", Help: "Connections whose handling failed by a fault of ours."}),
	}
	for i, by := range [...]string{"loop", "net/http", "prepared"} {
		m.requests[i] = requests.WithLabelValues(by)
	}
	if r == nil {
		return m
	}
	sum := func(of func(*loop.Loop) int) func() float64 {
		return func() (total float64) {
			for _, l := range loops() {
				total += float64(of(l))
			}
			return total
		}
	}
	r.MustRegister(requests, m.handshakes, m.refused, m.late, m.panics,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "chappe_connections", Help: "Open connections."}, sum((*loop.Loop).Len)),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "chappe_queue_bytes", Help: "Bytes that wait for sockets to take them."}, sum((*loop.Loop).Queued)))
	return m
}

// observeLate notes what is worth noting: a turn without deadlines is not.
func (m *metrics) observeLate(d time.Duration) {
	if d > 0 {
		m.late.Observe(d.Seconds())
	}
}
