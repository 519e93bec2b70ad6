package server

import (
	"strconv"
	"strings"
	"sync"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// metrics are what a server tells Prometheus. Durations are in seconds.
type metrics struct {
	registry *prometheus.Registry
	calls    *grpcprom.ServerMetrics

	wait, run, age, commit, batch, late *prometheus.HistogramVec
	failures                            *prometheus.CounterVec
}

func newMetrics(hubs *hubs) *metrics {
	fast := prometheus.ExponentialBuckets(0.0001, 4, 11) // 100 µs to 105 s
	slow := prometheus.ExponentialBuckets(0.001, 6, 11)  // 1 ms to 16 h
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "perdure", Name: name, Help: help, Buckets: buckets,
		}, append([]string{"hub"}, labels...))
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		calls:    grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(grpcprom.WithHistogramBuckets(fast))),
		wait: histogram("work_item_wait_seconds",
			"How long work items were ready before they were handed out.", fast, "kind"),
		run: histogram("work_item_run_seconds",
			"How long work items took from being handed out to their outcome.", fast, "kind", "name", "outcome"),
		age: histogram("orchestration_seconds",
			"How long orchestrations took from their creation to their end.", slow, "name", "status"),
		commit: histogram("commit_seconds", "How long commits took.", fast),
		batch:  histogram("commit_operations", "How many operations a commit had.", prometheus.ExponentialBuckets(1, 2, 11)),
		late:   histogram("timer_lateness_seconds", "How late timers fired.", fast),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "perdure", Name: "commit_failures_total", Help: "Commits that failed.",
		}, []string{"hub"}),
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector(),
		m.calls, m.wait, m.run, m.age, m.commit, m.batch, m.late, m.failures, gauges{hubs})
	return m
}

// of is the meter of one hub.
func (m *metrics) of(hub string) *hubMeter {
	h := &hubMeter{
		metrics: m, hub: hub, names: map[string]bool{}, waits: map[backend.WorkKind]prometheus.Observer{},
		commit: m.commit.WithLabelValues(hub), batch: m.batch.WithLabelValues(hub), late: m.late.WithLabelValues(hub),
		failures: m.failures.WithLabelValues(hub),
	}
	for _, k := range []backend.WorkKind{backend.OrchestrationWork, backend.ActivityWork, backend.EntityWork} {
		h.waits[k] = m.wait.WithLabelValues(hub, string(k))
	}
	return h
}

// hubMeter keeps the metrics of one hub.
type hubMeter struct {
	*metrics
	hub                 string
	waits               map[backend.WorkKind]prometheus.Observer
	commit, batch, late prometheus.Observer
	failures            prometheus.Counter

	mu    sync.RWMutex
	names map[string]bool
}

// maxNames bounds the values of the label name: clients choose them.
const maxNames = 500

func (h *hubMeter) name(name string) string {
	h.mu.RLock()
	known, n := h.names[name], len(h.names)
	h.mu.RUnlock()
	switch {
	case known:
		return name
	case n >= maxNames:
		return "other"
	}
	h.mu.Lock()
	h.names[name] = true
	h.mu.Unlock()
	return name
}

func (h *hubMeter) Waited(kind backend.WorkKind, d time.Duration) { h.waits[kind].Observe(d.Seconds()) }

func (h *hubMeter) Ran(kind backend.WorkKind, name string, outcome backend.WorkOutcome, d time.Duration) {
	h.run.WithLabelValues(h.hub, string(kind), h.name(name), string(outcome)).Observe(d.Seconds())
}

func (h *hubMeter) Finished(name string, status protos.OrchestrationStatus, d time.Duration) {
	h.age.WithLabelValues(h.hub, h.name(name), strings.ToLower(api.StatusName(status))).Observe(d.Seconds())
}

func (h *hubMeter) Committed(operations int, d time.Duration, err error) {
	if err != nil {
		h.failures.Inc()
		return
	}
	h.commit.Observe(d.Seconds())
	h.batch.Observe(float64(operations))
}

func (h *hubMeter) TimerFired(late time.Duration) { h.late.Observe(late.Seconds()) }

// gauges are read when Prometheus asks.
type gauges struct{ hubs *hubs }

type gauge struct {
	desc *prometheus.Desc
	of   func(backend.Stats) float64
}

func newGauge(name, help string, of func(backend.Stats) float64, labels ...string) gauge {
	return gauge{prometheus.NewDesc("perdure_"+name, help, append([]string{"hub"}, labels...), nil), of}
}

var (
	statGauges = []gauge{
		newGauge("live_instances", "Instances in memory.", func(s backend.Stats) float64 { return float64(s.Live) }),
		newGauge("resident_instances", "Instances in memory with their history.", func(s backend.Stats) float64 { return float64(s.Resident) }),
		newGauge("resident_bytes", "Roughly what these take.", func(s backend.Stats) float64 { return float64(s.ResidentBytes) }),
		newGauge("sleeping_instances", "Wake-ups to come.", func(s backend.Stats) float64 { return float64(s.Sleeping) }),
		newGauge("lease_held", "Whether this process owns the task hub.", func(s backend.Stats) float64 {
			if s.Owned {
				return 1
			}
			return 0
		}),
	}
	queuedGauge  = newGauge("queued_work_items", "Work items that are ready and not handed out.", nil, "kind")
	runningGauge = newGauge("running_work_items", "Work items that are handed out.", nil, "kind")
	workerGauge  = newGauge("workers", "Connected workers.", nil, "draining")
	itemsGauge   = newGauge("worker_items", "Work items that connected workers have.", nil, "kind")
)

// Describe implements prometheus.Collector.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range append(statGauges, queuedGauge, runningGauge, workerGauge, itemsGauge) {
		ch <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	for _, h := range g.hubs.all() {
		send := func(s gauge, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, v, append([]string{h.name}, labels...)...)
		}
		if m, ok := h.be.(backend.Metered); ok {
			s := m.Stats()
			for _, g := range statGauges {
				send(g, g.of(s))
			}
			send(queuedGauge, float64(s.QueuedTurns), string(backend.OrchestrationWork))
			send(queuedGauge, float64(s.QueuedActivities), string(backend.ActivityWork))
			send(queuedGauge, float64(s.QueuedEntities), string(backend.EntityWork))
			send(runningGauge, float64(s.Turns), string(backend.OrchestrationWork))
			send(runningGauge, float64(s.Activities), string(backend.ActivityWork))
			send(runningGauge, float64(s.Entities), string(backend.EntityWork))
		}
		if r, ok := h.executor.(backend.WorkerReporter); ok {
			draining := map[bool]int{}
			items := map[backend.WorkKind]int{}
			for _, w := range r.Workers() {
				draining[w.Draining]++
				items[backend.OrchestrationWork] += w.Orchestrations.Running
				items[backend.ActivityWork] += w.Activities.Running
				items[backend.EntityWork] += w.Entities.Running
			}
			for _, d := range []bool{false, true} {
				send(workerGauge, float64(draining[d]), strconv.FormatBool(d))
			}
			for _, k := range []backend.WorkKind{backend.OrchestrationWork, backend.ActivityWork, backend.EntityWork} {
				send(itemsGauge, float64(items[k]), string(k))
			}
		}
	}
}
