package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the gateway.
type metrics struct {
	requests *prometheus.CounterVec
	fetched  *prometheus.CounterVec
	took     *prometheus.HistogramVec
	purged   prometheus.Counter
	panics   prometheus.Counter
}

// routeMetrics are those of one route.
type routeMetrics struct {
	hits, misses, passes, failures prometheus.Counter
	fetches                        prometheus.Counter
	seconds                        prometheus.Observer
}

func newMetrics(r prometheus.Registerer, g *Gateway) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_gateway_requests_total", Help: "Requests of routes, by how they were answered: from the store (hit), by a fetch that was stored or shared (miss), passed on (pass), or not (failed).",
		}, []string{"route", "result"}),
		fetched: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_gateway_fetches_total", Help: "Requests to upstreams for what may be stored.",
		}, []string{"route"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "chappe_gateway_fetch_seconds", Help: "How long upstreams took until the head of such an answer.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"route"}),
		purged: prometheus.NewCounter(prometheus.CounterOpts{Name: "chappe_gateway_purged_total", Help: "Entries that events, requests or operators made stale."}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "chappe_gateway_panics_total", Help: "Answers whose handling failed; a fault of ours."}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	if r != nil {
		r.MustRegister(upstreams{g}, m.requests, m.fetched, m.took, m.purged, m.panics,
			gauge("chappe_gateway_stored_bytes", "What stored answers take of the memory.", func() float64 { return float64(g.store.bytes.Load()) }),
			gauge("chappe_gateway_stored", "Keys with stored answers.", func() float64 { return float64(g.store.count.Load()) }),
			gauge("chappe_gateway_queued", "Requests that wait for a fetch.", func() float64 { return float64(g.queued.Load()) }),
			gauge("chappe_gateway_waiting", "Clients that wait for a change.", func() float64 { return float64(g.waiters.Len()) }),
		)
	}
	return m
}

// upstreams tells the state of the origins.
type upstreams struct{ g *Gateway }

var (
	upDesc       = prometheus.NewDesc("chappe_gateway_upstream_up", "1 if the origin is asked: its health path answers, and it did not fail lately.", []string{"upstream"}, nil)
	inFlightDesc = prometheus.NewDesc("chappe_gateway_upstream_requests", "Requests to the origin, by whether they are in flight or wait for their turn.", []string{"upstream", "state"}, nil)
)

// Describe implements prometheus.Collector.
func (u upstreams) Describe(c chan<- *prometheus.Desc) { c <- upDesc; c <- inFlightDesc }

// Collect implements prometheus.Collector.
func (u upstreams) Collect(c chan<- prometheus.Metric) {
	for _, s := range u.g.origins.States() {
		up := 0.0
		if s.Up && s.Breaker == "closed" {
			up = 1
		}
		c <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, up, s.URL)
		c <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(s.InFlight), s.URL, "in_flight")
		c <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(s.Waiting), s.URL, "waiting")
	}
}

// route resolves a route's metrics once.
func (m *metrics) route(name string) routeMetrics {
	result := func(s string) prometheus.Counter { return m.requests.WithLabelValues(name, s) }
	return routeMetrics{result("hit"), result("miss"), result("pass"), result("failed"), m.fetched.WithLabelValues(name), m.took.WithLabelValues(name)}
}
