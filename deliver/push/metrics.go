package push

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	sessions *prometheus.GaugeVec
	sent     prometheus.Counter
	refused  *prometheus.CounterVec
	ended    *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "chappe_sessions", Help: "Connected sessions, by transport."}, []string{"transport"}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "chappe_events_sent_total", Help: "Events written to sessions."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_sessions_refused_total", Help: "Sessions refused, by problem code."}, []string{"code"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_sessions_ended_total", Help: "Sessions ended by the server, by its last control."}, []string{"control"}),
	}
	if r != nil {
		r.MustRegister(m.sessions, m.sent, m.refused, m.ended)
	}
	return m
}

// session counts one, until the returned function is called.
func (m *metrics) session(transport string) (done func()) {
	g := m.sessions.WithLabelValues(transport)
	g.Inc()
	return g.Dec
}
