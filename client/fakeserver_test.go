package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// fakeServer is a lock service of one table in the time of a synctest bubble. It does what the contract says of exclusive locks, as
// plainly as it can be written down, so that faults can be put between it and a client.
type fakeServer struct {
	rate  float64       // how fast its clock goes: between 0.99 and 1.01
	grace time.Duration // how long a place outlives the last sign of its client

	mu    sync.Mutex // guards what follows
	token uint64
	locks map[string]*fakeLock
	spent map[string]string // key: the code that it is refused with
	asked map[string]*askedFor
	seen  []string // requests, for tests that count them
}

type fakeLock struct {
	hold  *fakeHold
	queue []*fakePlace
}

type fakeHold struct {
	key   string
	token uint64
	ttl   time.Duration
	until time.Time
	since time.Time
	timer *time.Timer
}

type fakePlace struct {
	key       string
	ttl       time.Duration
	until     time.Time // of its wait; zero: none
	lives     time.Time // of its grace; while a request waits it is renewed
	attending int       // requests that wait
	newest    int       // number of the newest request; others are sent away
	wake      chan struct{}
}

func newFakeServer() *fakeServer {
	return &fakeServer{
		rate: 1, grace: 15 * time.Second, locks: map[string]*fakeLock{}, spent: map[string]string{},
		asked: map[string]*askedFor{},
	}
}

type fakeAnswer struct {
	status int
	body   any
}

func problemAnswer(status int, code string) fakeAnswer {
	return fakeAnswer{status, map[string]any{
		"type": "urn:doubledutch:problem:" + code, "title": "refused", "status": status, "detail": "It is " + code + ".", "code": code,
	}}
}

// serve answers one request. ctx ends when the client hangs up.
func (s *fakeServer) serve(ctx context.Context, method, path, lockKey string, body []byte) fakeAnswer {
	s.mu.Lock()
	s.seen = append(s.seen, method+" "+path)
	s.mu.Unlock()
	rest, ok := strings.CutPrefix(path, "/v1/locks/")
	if !ok {
		return problemAnswer(404, "not_found")
	}
	name, verb, _ := strings.Cut(rest, "/")
	name, _ = url.PathUnescape(name)
	var b acquireBody
	if len(body) > 0 {
		if err := json.Unmarshal(body, &b); err != nil {
			return problemAnswer(400, "invalid_body")
		}
	}
	if b.TTL == 0 {
		b.TTL = 30
	}
	switch {
	case method == http.MethodPost && verb == "":
		return s.acquire(ctx, name, &b)
	case method == http.MethodPost && verb == "renew":
		return s.renew(name, b.Key)
	case method == http.MethodDelete && verb == "":
		return s.release(name, lockKey)
	}
	return problemAnswer(404, "not_found")
}

// lasting is how long d of the server's clock is in true time.
func (s *fakeServer) lasting(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.rate)
}

func (s *fakeServer) lockLocked(name string) *fakeLock {
	l := s.locks[name]
	if l == nil {
		l = &fakeLock{}
		s.locks[name] = l
	}
	return l
}

// passLocked lets everything happen on l that is due.
func (s *fakeServer) passLocked(l *fakeLock) {
	now := time.Now()
	if h := l.hold; h != nil && !now.Before(h.until) {
		s.endLocked(l, "key_spent")
	}
	l.queue = slices.DeleteFunc(l.queue, func(p *fakePlace) bool {
		over := !p.until.IsZero() && !now.Before(p.until)
		gone := p.attending == 0 && !now.Before(p.lives)
		if over || gone {
			p.stir()
		}
		return over || gone
	})
	if l.hold == nil && len(l.queue) > 0 {
		p := l.queue[0]
		l.queue = l.queue[1:]
		s.grantLocked(l, p.key, p.ttl)
		p.stir()
	}
}

func (p *fakePlace) stir() {
	close(p.wake)
	p.wake = make(chan struct{})
}

func (s *fakeServer) grantLocked(l *fakeLock, key string, ttl time.Duration) {
	s.token++
	h := &fakeHold{key: key, token: s.token, ttl: ttl, since: time.Now()}
	l.hold = h
	h.until = time.Now().Add(s.lasting(ttl))
	h.timer = time.AfterFunc(s.lasting(ttl), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.passLocked(l)
	})
}

// endLocked ends the hold on l; its key is answered with the code from then on.
func (s *fakeServer) endLocked(l *fakeLock, code string) {
	l.hold.timer.Stop()
	s.spent[l.hold.key] = code
	l.hold = nil
}

func (s *fakeServer) grantedLocked(h *fakeHold, name string) fakeAnswer {
	left := time.Duration(float64(time.Until(h.until)) * s.rate)
	return fakeAnswer{200, map[string]any{
		"name": name, "key": h.key, "token": h.token, "ttl": h.ttl.Seconds(), "expires_in": left.Truncate(time.Millisecond).Seconds(),
		"mode": "exclusive", "waited": 0,
	}}
}

func (s *fakeServer) acquire(ctx context.Context, name string, b *acquireBody) fakeAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lockLocked(name)
	s.passLocked(l)
	wait := b.Wait.duration()
	if b.Wait < 0 {
		wait = -1
	}
	p := l.place(b.Key)
	switch {
	case l.hold != nil && l.hold.key == b.Key:
		return s.grantedLocked(l.hold, name)
	case s.spent[b.Key] != "":
		return problemAnswer(409, s.spent[b.Key])
	case p == nil && l.hold == nil && len(l.queue) == 0:
		s.grantLocked(l, b.Key, b.TTL.duration())
		return s.grantedLocked(l.hold, name)
	case wait == 0:
		l.queue = slices.DeleteFunc(l.queue, func(q *fakePlace) bool { return q == p })
		return problemAnswer(409, "held")
	}
	if p == nil {
		p = &fakePlace{key: b.Key, ttl: b.TTL.duration(), wake: make(chan struct{})}
		l.queue = append(l.queue, p)
	}
	p.until = time.Time{}
	if wait > 0 {
		p.until = time.Now().Add(s.lasting(wait))
	}
	return s.park(ctx, name, l, p, b.Poll.duration())
}

func (l *fakeLock) place(key string) *fakePlace {
	for _, p := range l.queue {
		if p.key == key {
			return p
		}
	}
	return nil
}

// park waits in the queue, for at most poll if that is not 0. s.mu is held.
func (s *fakeServer) park(ctx context.Context, name string, l *fakeLock, p *fakePlace, poll time.Duration) fakeAnswer {
	p.newest++
	me := p.newest
	p.stir() // older requests go
	p.attending++
	left := func() { p.attending--; p.lives = time.Now().Add(s.grace) }
	var slice <-chan time.Time
	if poll > 0 {
		slice = time.After(poll)
	}
	for {
		wake := p.wake
		var wait <-chan time.Time
		if !p.until.IsZero() {
			wait = time.After(time.Until(p.until))
		}
		s.mu.Unlock()
		sliced, hung := false, false
		select {
		case <-wake:
		case <-wait:
		case <-slice:
			sliced = true
		case <-ctx.Done():
			hung = true
		}
		s.mu.Lock()
		s.passLocked(l)
		waiting := l.place(p.key) == p
		switch {
		case l.hold != nil && l.hold.key == p.key && (p.newest == me || hung):
			left()
			return s.grantedLocked(l.hold, name)
		case p.newest != me:
			left()
			return problemAnswer(409, "cancelled")
		case hung:
			left()
			if waiting && poll == 0 { // who does not come back gives up the place
				l.queue = slices.DeleteFunc(l.queue, func(q *fakePlace) bool { return q == p })
			}
			return problemAnswer(409, "cancelled")
		case !waiting && s.spent[p.key] != "":
			left()
			return problemAnswer(409, s.spent[p.key])
		case !waiting:
			left()
			return problemAnswer(409, "held")
		case sliced:
			left()
			return fakeAnswer{202, map[string]any{
				"name": name, "key": p.key, "waiting": true, "position": 1 + slices.Index(l.queue, p), "queue_length": len(l.queue),
				"keeps_place_for": s.grace.Seconds(),
			}}
		}
	}
}

func (s *fakeServer) renew(name, key string) fakeAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lockLocked(name)
	s.passLocked(l)
	h := l.hold
	if h == nil || h.key != key {
		if s.spent[key] == "broken" {
			a := problemAnswer(409, "broken")
			a.body.(map[string]any)["by"] = "ops"
			a.body.(map[string]any)["reason"] = "it hangs"
			return a
		}
		return problemAnswer(404, "not_held")
	}
	h.until = time.Now().Add(s.lasting(h.ttl))
	h.timer.Reset(s.lasting(h.ttl))
	a := s.grantedLocked(h, name)
	if asked := s.asked[name]; asked != nil {
		a.body.(map[string]any)["asked"] = asked
	}
	return a
}

func (s *fakeServer) release(name, key string) fakeAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lockLocked(name)
	s.passLocked(l)
	if p := l.place(key); p != nil {
		s.spent[key] = "key_spent"
		l.queue = slices.DeleteFunc(l.queue, func(q *fakePlace) bool { return q == p })
		p.stir()
		return fakeAnswer{200, map[string]any{"released": true}}
	}
	if l.hold == nil || l.hold.key != key {
		return problemAnswer(404, "not_held")
	}
	s.endLocked(l, "key_spent")
	s.passLocked(l)
	return fakeAnswer{200, map[string]any{"released": true}}
}

// breakHold ends whatever hold there is on the lock, as an operator does.
func (s *fakeServer) breakHold(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lockLocked(name)
	if l.hold != nil {
		s.endLocked(l, "broken")
		s.passLocked(l)
	}
}

// askFor tells the holder of the lock, when it renews, what it is asked.
func (s *fakeServer) askFor(name string, a *askedFor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[name] = a
}

// holder is the token of who holds the lock now; 0: nobody.
func (s *fakeServer) holder(name string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lockLocked(name)
	s.passLocked(l)
	if l.hold == nil {
		return 0
	}
	return l.hold.token
}

func (s *fakeServer) waiters(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lockLocked(name)
	s.passLocked(l)
	return len(l.queue)
}

// count is how many requests came that begin so.
func (s *fakeServer) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.seen {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// fakeNetwork carries requests to a fakeServer, from a client in the same bubble.
type fakeNetwork struct {
	server *fakeServer
	flight *group     // requests on their way
	mu     sync.Mutex // guards fault
	fault  func(host string, req *http.Request) fault
}

// fault is what happens to one request.
type fault struct {
	refused   bool                               // nobody listens
	blackHole bool                               // it arrives nowhere, and no answer comes
	answer    *fakeAnswer                        // this comes back, and the server does not see the request
	there     time.Duration                      // how long the request is on its way
	back      time.Duration                      // and the answer
	lost      bool                               // the answer is lost, and the connection breaks
	muted     bool                               // the answer is lost, and nobody notices
	again     time.Duration                      // a copy of the request arrives so much later; 0: none
	seen      func(a fakeAnswer, sent time.Time) // gets the answer when it is made
}

func (n *fakeNetwork) set(f func(host string, req *http.Request) fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault = f
}

func (n *fakeNetwork) faultFor(req *http.Request) fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fault == nil {
		return fault{}
	}
	return n.fault(req.URL.Host, req)
}

// RoundTrip is part of http.RoundTripper.
func (n *fakeNetwork) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		_ = req.Body.Close()
	}
	ctx, f, sent := req.Context(), n.faultFor(req), time.Now()
	switch {
	case f.refused:
		return nil, errRefused
	case f.blackHole:
		<-ctx.Done()
		return nil, ctx.Err()
	case f.answer != nil:
		return f.answer.response(), nil
	}
	serve := func(ctx context.Context) fakeAnswer {
		return n.server.serve(ctx, req.Method, req.URL.EscapedPath(), req.Header.Get("Lock-Key"), body)
	}
	if f.again > 0 {
		n.flight.goes(func() { // a proxy's copy: nobody reads the answer
			time.Sleep(f.there + f.again)
			gone, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			defer cancel()
			serve(gone)
		})
	}
	// What is on its way arrives, also when the client does not wait for the answer any more.
	answered := make(chan fakeAnswer, 1)
	n.flight.goes(func() {
		time.Sleep(f.there)
		answered <- serve(ctx)
	})
	var a fakeAnswer
	select {
	case a = <-answered:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if f.seen != nil {
		f.seen(a, sent)
	}
	select {
	case <-time.After(f.back):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case f.lost:
		return nil, io.ErrUnexpectedEOF
	case f.muted:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return a.response(), nil
}

func (a *fakeAnswer) response() *http.Response {
	b, err := json.Marshal(a.body)
	if err != nil {
		panic(err)
	}
	h := http.Header{}
	if a.status == 503 {
		h.Set("Retry-After", "1")
	}
	return &http.Response{
		Status: fmt.Sprint(a.status), StatusCode: a.status, Header: h, Body: io.NopCloser(strings.NewReader(string(b))),
	}
}
