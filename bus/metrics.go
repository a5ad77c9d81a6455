package bus

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	events  *prometheus.CounterVec
	commits *prometheus.HistogramVec
	group   prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_events_published_total", Help: "Events taken, by kind of topic."}, []string{"kind"}),
		commits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "chappe_commit_seconds", Help: "Time of a group commit, disk included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}, []string{"outcome"}),
		group: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chappe_commit_batches", Help: "Publishes that shared a commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
	}
	if r != nil {
		r.MustRegister(m.events, m.commits, m.group)
	}
	return m
}

func (m *metrics) commit(batches int, took time.Duration, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	m.commits.WithLabelValues(outcome).Observe(took.Seconds())
	m.group.Observe(float64(batches))
}
