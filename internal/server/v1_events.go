package server

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/doubledutch-lock/doubledutch/internal/locktable"
	"github.com/doubledutch-lock/doubledutch/internal/node"
)

const (
	// A stream on which nothing happens gets a comment so often, so that both ends and what is between them keep it.
	eventBeat = 15 * time.Second
	// Events that are read at once, and bytes after which they are written out: an event can have some 100 KiB.
	eventBatch = 256
	eventWrite = 64 << 10

	headerLastEvent = "Last-Event-Id"
)

var eventStream = []string{"text/event-stream"}

// eventNames are what clients see of the kinds of events. The others are between the server and single clients.
var eventNames = map[locktable.EventKind]string{
	locktable.EventGranted:       "granted",
	locktable.EventReleased:      "released",
	locktable.EventExpired:       "expired",
	locktable.EventBroken:        "revoked",
	locktable.EventHandedOver:    "handed_over",
	locktable.EventQueued:        "queued",
	locktable.EventCancelled:     "cancelled",
	locktable.EventTimedOut:      "timed_out",
	locktable.EventAsked:         "asked",
	locktable.EventTaskClaimed:   "task_claimed",
	locktable.EventTaskProgress:  "task_progress",
	locktable.EventTaskDone:      "task_done",
	locktable.EventTaskFailed:    "task_failed",
	locktable.EventTaskLost:      "task_lost",
	locktable.EventTaskTakenBack: "task_taken_back",
	locktable.EventTaskSettled:   "task_settled",
	locktable.EventTaskForgotten: "task_forgotten",
}

// What a stream is about.
const (
	aboutLocks = 1 << iota
	aboutTasks
)

// lockEvents answers GET /v1/locks/{name}/events.
func (s *Server) lockEvents(c *call) error { return s.namedEvents(c, aboutLocks) }

// taskEvents answers GET /v1/tasks/{name}/events.
func (s *Server) taskEvents(c *call) error { return s.namedEvents(c, aboutTasks) }

func (s *Server) namedEvents(c *call, about int) error {
	name := c.params[0]
	if err := s.checkName(c.ctx(), name); err != nil {
		return err
	}
	if err := noQuery(c.r.URL.RawQuery); err != nil {
		return err
	}
	return s.streamEvents(c, func(e *locktable.Event) bool { return e.Lock == name && isAbout(e, about) })
}

// allEvents answers GET /v1/events.
func (s *Server) allEvents(c *call) error {
	prefix, about, err := readEventsQuery(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	return s.streamEvents(c, func(e *locktable.Event) bool { return strings.HasPrefix(e.Lock, prefix) && isAbout(e, about) })
}

func isAbout(e *locktable.Event, about int) bool {
	name, ok := eventNames[e.Kind]
	if !ok {
		return false
	}
	if strings.HasPrefix(name, "task_") {
		return about&aboutTasks != 0
	}
	return about&aboutLocks != 0
}

func noQuery(raw string) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return fail(CodeInvalidRequest, "The part of the address after the question mark cannot be read.")
	}
	for name := range values {
		return failField(short(name), "There is no parameter "+quoteShort(name)+" here.")
	}
	return nil
}

func readEventsQuery(raw string) (prefix string, about int, err error) {
	about = aboutLocks | aboutTasks
	values, err := url.ParseQuery(raw)
	if err != nil {
		return "", 0, fail(CodeInvalidRequest, "The part of the address after the question mark cannot be read.")
	}
	for name, v := range values {
		switch {
		case len(v) > 1:
			return "", 0, failField(short(name), "The parameter "+quoteShort(name)+" is there more than once.")
		case name == "prefix":
			prefix = v[0]
		case name == "of" && v[0] == "locks":
			about = aboutLocks
		case name == "of" && v[0] == "tasks":
			about = aboutTasks
		case name == "of":
			return "", 0, failField(name, "The parameter of must be locks or tasks.")
		default:
			return "", 0, failField(short(name), "There is no parameter "+quoteShort(name)+" here.")
		}
	}
	return prefix, about, nil
}

// streamEvents writes the events that want accepts until the client goes, the server stops, or the client is too slow.
func (s *Server) streamEvents(c *call, want func(*locktable.Event) bool) error {
	after, err := lastEvent(c)
	if err != nil {
		return err
	}
	if err := s.openStream(); err != nil {
		return err
	}
	defer s.closeStream()
	events, err := s.backend.Events(c.ctx(), after, want)
	if err != nil {
		return backendError(c.ctx(), err)
	}
	h := c.w.Header()
	h["Content-Type"] = eventStream
	h["X-Accel-Buffering"] = []string{"no"} // a proxy in between passes each event on at once
	c.status = http.StatusOK
	c.w.WriteHeader(http.StatusOK)
	c.buf = append(c.buf[:0], "retry: 1000\n\n"...)
	resumed := after != nil
	for s.writeEvents(c) {
		c.buf = c.buf[:0]
		batch, err := events.Next(c.ctx(), eventBatch, eventBeat)
		switch {
		case errors.Is(err, node.ErrMissed):
			c.buf = appendMissed(c.buf, events.At())
			if !resumed { // it reads too slowly
				s.stats.cutStreams.Inc()
				s.writeEvents(c)
				return nil
			}
		case err != nil:
			return nil // the client left, or the server stops: the end of the stream says so
		case len(batch) == 0:
			c.buf = append(c.buf, ":\n\n"...)
		}
		resumed = false
		for i := range batch {
			if len(c.buf) > eventWrite {
				if !s.writeEvents(c) {
					return nil
				}
				c.buf = c.buf[:0]
			}
			c.buf = appendEvent(c.buf, &batch[i])
		}
	}
	return nil
}

// openStream counts one more stream, unless there are as many as may be.
func (s *Server) openStream() error {
	if s.streams.Add(1) > maxEventStreams {
		s.streams.Add(-1)
		return fail(CodeTooManyStreams, "As many clients follow events here as may; ask again later, or another node.")
	}
	s.stats.streams.Inc()
	return nil
}

func (s *Server) closeStream() {
	s.streams.Add(-1)
	s.stats.streams.Dec()
}

// writeEvents writes out what has been gathered, and tells whether the client took it in time. While nothing is written there
// is no deadline: HTTP/2 resets a stream at it also when nothing is to be written.
func (s *Server) writeEvents(c *call) bool {
	s.deadline(c)
	if _, err := c.w.Write(c.buf); err != nil {
		return false
	}
	if flush(c.w) != nil {
		return false
	}
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Time{})
	return true
}

// lastEvent returns the id that the client has got as far as, or nil if it begins.
func lastEvent(c *call) (*node.EventID, error) {
	v, err := headerValue(c, headerLastEvent)
	if err != nil || v == "" {
		return nil, err
	}
	id, err := node.ParseEventID(v)
	if err != nil {
		return nil, failField("Last-Event-ID", "The header Last-Event-ID must be the id of an event.")
	}
	return &id, nil
}

// appendMissed tells a client that it has to look at the present state: events have passed that it has not seen.
func appendMissed(b []byte, at node.EventID) []byte {
	b = append(b, "id: "...)
	b = append(b, at.String()...)
	b = append(b, "\nevent: missed\ndata: {\"detail\":\"Events have passed that are not kept any more. Look at the present state, and go on from here.\"}\n\n"...)
	return b
}

// appendEvent writes one event. Its data is a single line, since JSON text has no raw line ends.
func appendEvent(b []byte, e *node.StampedEvent) []byte {
	b = append(b, "id: "...)
	b = append(b, e.ID.String()...)
	b = append(b, "\nevent: "...)
	b = append(b, eventNames[e.Kind]...)
	b = append(b, "\ndata: {\"name\":"...)
	b = appendString(b, e.Lock)
	if e.Wall != 0 {
		b = append(b, `,"at":"`...)
		b = time.Unix(0, e.Wall).UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
		b = append(b, '"')
	}
	if e.Token != 0 {
		b = append(b, `,"token":`...)
		b = strconv.AppendUint(b, e.Token, 10)
	}
	if e.Task == nil {
		b = appendKind(b, e.Mode, e.Slots)
	}
	if e.Owner != "" {
		b = append(b, `,"owner":`...)
		b = appendString(b, e.Owner)
	}
	if e.Metadata != "" {
		b = append(b, `,"metadata":`...)
		b = appendString(b, e.Metadata)
	}
	if e.Set > 1 {
		b = append(b, `,"set":`...)
		b = strconv.AppendInt(b, int64(e.Set), 10)
	}
	b = appendEventDetails(b, e)
	return append(b, "}\n\n"...)
}

func appendEventDetails(b []byte, e *node.StampedEvent) []byte {
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"ttl", e.TTL}, {"waited", e.Waited}, {"held_for", e.HeldFor}} {
		if d.d > 0 {
			b = append(b, ',', '"')
			b = append(b, d.name...)
			b = append(b, `":`...)
			b = appendMillis(b, d.d)
		}
	}
	for _, t := range []struct{ name, text string }{{"by", e.By}, {"reason", e.Reason}} {
		if t.text != "" {
			b = append(b, ',', '"')
			b = append(b, t.name...)
			b = append(b, `":`...)
			b = appendString(b, t.text)
		}
	}
	if e.Task != nil {
		b = appendEventTask(b, e.Task)
	}
	if e.Kind == locktable.EventAsked {
		b = append(b, `,"within":`...)
		b = appendMillis(b, e.Deadline.Sub(e.At))
	}
	return b
}

// appendEventTask tells how the task stands after the event.
func appendEventTask(b []byte, t *locktable.TaskInfo) []byte {
	b = append(b, `,"status":"`...)
	b = append(b, taskStatusNames[t.Status]...)
	b = append(b, `","attempt":`...)
	b = strconv.AppendUint(b, uint64(t.Attempts), 10)
	b = appendText(b, "progress", t.Progress)
	return appendText(b, textName(t), t.Text)
}
