package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// Metrics counts what the server does, for GET /metrics. It is a node.Observer: the node tells it what was applied. No
// label ever carries a name, a key or anything else that a client chose; the names of nodes are the only names there are.
type Metrics struct {
	registry *prometheus.Registry

	grants        [3]prometheus.Counter // by kind
	refusals      map[locktable.Code]prometheus.Counter
	releases      prometheus.Counter
	expiries      prometheus.Counter
	sessionsEnded prometheus.Counter
	cancellations prometheus.Counter
	timeouts      prometheus.Counter
	undelivered   prometheus.Counter
	deadlocks     prometheus.Counter
	tasks         map[locktable.EventKind]prometheus.Counter
	streams       prometheus.Gauge
	cutStreams    prometheus.Counter
	asks          prometheus.Counter
	breaks        prometheus.Counter
	handOvers     prometheus.Counter
	wait, hold    prometheus.Histogram
	commit, batch prometheus.Histogram

	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec

	connections                prometheus.Gauge
	refusedTotal, refusedPerIP prometheus.Counter
}

const namespace = "doubledutch"

// Kinds of grants.
const (
	kindExclusive = iota
	kindShared
	kindSemaphore
)

// Seconds from a tenth of a millisecond to an hour.
var longBuckets = []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 900, 3600}

// Seconds from 50 microseconds to ten.
var shortBuckets = []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}

var batchBuckets = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512}

// NewMetrics returns counters in a registry of their own, together with those of the process and of the Go runtime.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), refusals: make(map[locktable.Code]prometheus.Counter)}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.addLocks()
	m.addTasks()
	m.addRequests()
	return m
}

func (m *Metrics) addLocks() {
	grants := m.counters("grants_total", "Holds granted, re-entrant ones included.", "mode")
	m.grants = [3]prometheus.Counter{grants.WithLabelValues("exclusive"), grants.WithLabelValues("shared"), grants.WithLabelValues("semaphore")}
	refusals := m.counters("refusals_total", "Acquires, claims on tasks and sessions refused by the lock table.", "code")
	for code, e := range outcomeErrors {
		m.refusals[code] = refusals.WithLabelValues(string(e.Code))
	}
	m.refusals[locktable.Invalid] = refusals.WithLabelValues(string(CodeInvalidRequest))
	m.releases = m.counter("releases_total", "Holds that ended by release, or with their session's end.")
	m.expiries = m.counter("expiries_total", "Holds that ended because their lifetime passed.")
	m.sessionsEnded = m.counter("session_expiries_total", "Shared sessions whose lifetime passed.")
	m.cancellations = m.counter("cancellations_total", "Places in queues given up, or lost with client or session.")
	m.timeouts = m.counter("timeouts_total", "Places in queues whose wait ran out.")
	m.undelivered = m.counter("undelivered_grants_total", "Grants taken back because their answer could not be written.")
	m.asks = m.counter("asks_total", "Times that holders were asked to make way.")
	m.breaks = m.counter("breaks_total", "Holds that an operator ended.")
	m.handOvers = m.counter("hand_overs_total", "Holds that were handed over to a successor.")
	m.wait = m.histogram("wait_seconds", "How long those waited in a queue that were granted in the end.", longBuckets)
	m.hold = m.histogram("hold_seconds", "How long locks were held.", longBuckets)
	m.commit = m.histogram("commit_latency_seconds", "From the proposal of a log entry until it was applied.", shortBuckets)
	m.batch = m.histogram("batch_commands", "Commands in a log entry.", batchBuckets)
}

func (m *Metrics) addTasks() {
	m.deadlocks = m.counter("deadlocks_total", "Acquires refused because they would have waited for themselves.")
	tasks := m.counters("task_events_total", "What happened to tasks: attempts claimed, done, failed, lost and taken back, tasks settled and forgotten.", "event")
	m.tasks = make(map[locktable.EventKind]prometheus.Counter)
	for kind, event := range map[locktable.EventKind]string{
		locktable.EventTaskClaimed: "claimed", locktable.EventTaskDone: "done", locktable.EventTaskFailed: "failed",
		locktable.EventTaskLost: "lost", locktable.EventTaskTakenBack: "taken_back", locktable.EventTaskSettled: "settled",
		locktable.EventTaskForgotten: "forgotten",
	} {
		m.tasks[kind] = tasks.WithLabelValues(event)
	}
	m.streams = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "event_streams", Help: "Clients that follow events."})
	m.registry.MustRegister(m.streams)
	m.cutStreams = m.counter("event_streams_cut_total", "Streams of events that ended because their client read too slowly.")
}

func (m *Metrics) addRequests() {
	m.requests = m.counters("http_requests_total", "Requests answered; status none: the client left before.", "route", "status")
	m.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: "http_request_seconds",
		Help: "From the request's header to the end of its answer, waiting in queues included.", Buckets: longBuckets,
	}, []string{"route"})
	m.connections = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "connections", Help: "Open connections."})
	m.registry.MustRegister(m.seconds, m.connections)
	refused := m.counters("connections_refused_total", "Connections refused at a bound.", "bound")
	m.refusedTotal, m.refusedPerIP = refused.WithLabelValues("total"), refused.WithLabelValues("address")
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

// Applied counts the outcomes of one log entry.
func (m *Metrics) Applied(cmds []*command.Command, out []locktable.Outcome, events []locktable.Event) {
	for i := range out {
		if i < len(cmds) && counted(cmds[i]) {
			if c := m.refusals[out[i].Code]; c != nil {
				c.Inc()
			}
			if out[i].Code == locktable.Deadlock {
				m.deadlocks.Inc()
			}
		}
	}
	for i := range events {
		m.event(&events[i])
	}
}

// counted tells whether a refusal of c is one that refusals_total means.
func counted(c *command.Command) bool {
	return c.GetAcquire() != nil || c.GetOpenSession() != nil || c.GetClaimTask() != nil
}

func (m *Metrics) event(e *locktable.Event) {
	if c := m.tasks[e.Kind]; c != nil {
		c.Inc()
		return
	}
	switch e.Kind {
	case locktable.EventGranted:
		m.grants[kindOf(e)].Inc()
		if e.Waited > 0 {
			m.wait.Observe(e.Waited.Seconds())
		}
	case locktable.EventReleased:
		m.releases.Inc()
		m.hold.Observe(e.HeldFor.Seconds())
	case locktable.EventExpired:
		m.expiries.Inc()
		m.hold.Observe(e.HeldFor.Seconds())
	case locktable.EventBroken:
		m.breaks.Inc()
		m.hold.Observe(e.HeldFor.Seconds())
	case locktable.EventHandedOver:
		m.handOvers.Inc()
		m.hold.Observe(e.HeldFor.Seconds())
	case locktable.EventAsked:
		m.asks.Inc()
	case locktable.EventCancelled:
		m.cancellations.Inc()
	case locktable.EventTimedOut:
		m.timeouts.Inc()
	case locktable.EventSessionExpired:
		m.sessionsEnded.Inc()
	}
}

func kindOf(e *locktable.Event) int {
	switch {
	case e.Slots > 0:
		return kindSemaphore
	case e.Mode == locktable.Shared:
		return kindShared
	}
	return kindExclusive
}

// Committed counts one log entry.
func (m *Metrics) Committed(commands int, latency time.Duration) {
	m.batch.Observe(float64(commands))
	m.commit.Observe(latency.Seconds())
}

// routeStats are the counters of one route, found once.
type routeStats struct {
	// By the first digit of the status; [0] is for requests that were never answered.
	classes [6]prometheus.Counter
	seconds prometheus.Observer
}

var classNames = [6]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (m *Metrics) route(name string) *routeStats {
	st := &routeStats{seconds: m.seconds.WithLabelValues(name)}
	for i, class := range classNames {
		st.classes[i] = m.requests.WithLabelValues(name, class)
	}
	return st
}

func (st *routeStats) observe(status int, took time.Duration) {
	class := status / 100
	if class < 0 || class >= len(st.classes) {
		class = 0
	}
	st.classes[class].Inc()
	st.seconds.Observe(took.Seconds())
}
