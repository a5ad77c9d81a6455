package push

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	sessions [kinds]prometheus.Gauge
	opened   prometheus.Counter
	sent     prometheus.Counter
	refused  *prometheus.CounterVec
	ended    *prometheus.CounterVec
	fanout   prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	sessions := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "chappe_sessions", Help: "Connected sessions, by transport."}, []string{"transport"})
	m := &metrics{
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_sessions_opened_total", Help: "Sessions opened."}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_events_sent_total", Help: "Events written to sessions."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_sessions_refused_total", Help: "Sessions refused, by problem code."}, []string{"code"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_sessions_ended_total", Help: "Sessions ended by the server, by its last control, or why there was none."}, []string{"control"}),
		fanout: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "chappe_fanout_seconds", Help: "From the commit of events to the last write of them to the sessions of a loop.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9)}),
	}
	for k, name := range kindNames {
		m.sessions[k] = sessions.WithLabelValues(name)
	}
	if r != nil {
		r.MustRegister(sessions, m.opened, m.sent, m.refused, m.ended, m.fanout)
	}
	return m
}
