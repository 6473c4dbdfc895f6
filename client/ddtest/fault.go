package ddtest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Plan says which requests a fault shall meet. Choose the fault by one of its methods.
type Plan struct {
	s     *Server
	match Match
	once  bool
}

// Next plans a fault for the next request that matches.
func (s *Server) Next(m Match) *Plan { return &Plan{s, m, true} }

// Every plans a fault for all requests that match, until it is stopped.
func (s *Server) Every(m Match) *Plan { return &Plan{s, m, false} }

// A Fault waits for requests, or has met them. A request meets at most one fault, the one that was planned first; streams
// of events meet none. The methods may be called from any goroutine.
type Fault struct {
	faults *faults
	match  Match
	once   bool
	act    act

	mu    sync.Mutex    // guards count
	count int           // requests met
	done  chan struct{} // closed with the first
}

// act does to a request what the fault says. struck must be called as soon as the server has executed what it shall execute.
type act func(w http.ResponseWriter, r *http.Request, door http.Handler, struck func())

// Done is closed when the fault has met a request for the first time. If the server executes the request, it has done so by then.
func (f *Fault) Done() <-chan struct{} { return f.done }

// Count returns how many requests the fault has met.
func (f *Fault) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// Stop ends the fault: it meets no further request.
func (f *Fault) Stop() { f.faults.remove(f) }

func (f *Fault) struck() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count++; f.count == 1 {
		close(f.done)
	}
}

// Lose cuts the connection before the server has seen the request. The client cannot know whether it was executed; it was not.
// (Go's http.Transport sends a GET or DELETE on a reused connection again by itself.)
func (p *Plan) Lose() *Fault {
	return p.do(func(_ http.ResponseWriter, _ *http.Request, _ http.Handler, struck func()) {
		struck()
		panic(http.ErrAbortHandler)
	})
}

// LoseAnswer lets the server execute the request, and cuts the connection instead of answering. The client cannot know whether it
// was executed; it was.
func (p *Plan) LoseAnswer() *Fault {
	return p.do(func(_ http.ResponseWriter, r *http.Request, door http.Handler, struck func()) {
		execute(door, r)
		struck()
		panic(http.ErrAbortHandler)
	})
}

// Swallow is Lose without a sign: the connection stays, and nothing comes until the client gives up.
func (p *Plan) Swallow() *Fault {
	return p.do(func(_ http.ResponseWriter, r *http.Request, _ http.Handler, struck func()) {
		_, _ = io.Copy(io.Discard, r.Body) // who waits for the end of a connection has read what came
		struck()
		p.s.faults.idle(r, 0)
		panic(http.ErrAbortHandler)
	})
}

// SwallowAnswer is LoseAnswer without a sign: the connection stays, and nothing comes until the client gives up.
func (p *Plan) SwallowAnswer() *Fault {
	return p.do(func(_ http.ResponseWriter, r *http.Request, door http.Handler, struck func()) {
		execute(door, r)
		struck()
		p.s.faults.idle(r, 0)
		panic(http.ErrAbortHandler)
	})
}

// Delay lets the server execute the request, and holds the answer back for d. What the answer says of remaining time was true when
// it was made.
func (p *Plan) Delay(d time.Duration) *Fault {
	return p.do(func(w http.ResponseWriter, r *http.Request, door http.Handler, struck func()) {
		answer := execute(door, r)
		struck()
		if !p.s.faults.idle(r, d) {
			panic(http.ErrAbortHandler)
		}
		answer.send(w)
	})
}

// Late lets the request arrive d later.
func (p *Plan) Late(d time.Duration) *Fault {
	return p.do(func(w http.ResponseWriter, r *http.Request, door http.Handler, struck func()) {
		body, _ := io.ReadAll(r.Body)
		if !p.s.faults.idle(r, d) {
			panic(http.ErrAbortHandler)
		}
		answer := execute(door, copyOf(r.Context(), r, body))
		struck()
		answer.send(w)
	})
}

// Twice lets the request arrive twice, as from a proxy that tries again; the client gets the second answer.
func (p *Plan) Twice() *Fault {
	return p.do(func(w http.ResponseWriter, r *http.Request, door http.Handler, struck func()) {
		body, _ := io.ReadAll(r.Body)
		execute(door, copyOf(r.Context(), r, body))
		answer := execute(door, copyOf(r.Context(), r, body))
		struck()
		answer.send(w)
	})
}

// Echo answers the request as usual, and lets a copy of it arrive d after the answer was made. Nobody gets the copy's answer.
func (p *Plan) Echo(d time.Duration) *Fault {
	return p.do(func(w http.ResponseWriter, r *http.Request, door http.Handler, struck func()) {
		body, _ := io.ReadAll(r.Body)
		answer := execute(door, copyOf(r.Context(), r, body))
		ctx, again := p.s.faults.outlive(r)
		p.s.working.Go(func() {
			defer again()
			late := copyOf(ctx, r, body)
			if p.s.faults.idle(late, d) {
				execute(door, late)
			}
		})
		struck()
		answer.send(w)
	})
}

// Refuse answers with a problem document of that status and code, such as 503 and "unavailable", without asking the server.
// Answers of 429 and 503 say Retry-After: 1.
func (p *Plan) Refuse(status int, code string) *Fault {
	return p.do(func(w http.ResponseWriter, r *http.Request, _ http.Handler, struck func()) {
		_, _ = io.Copy(io.Discard, r.Body)
		struck()
		problem(w, status, code)
	})
}

func (p *Plan) do(a act) *Fault {
	f := &Fault{faults: &p.s.faults, match: p.match, once: p.once, act: a, done: make(chan struct{})}
	p.s.faults.add(f)
	return f
}

// faults are those that wait for requests.
type faults struct {
	ended   chan struct{} // closed with the server
	endOnce sync.Once

	mu  sync.Mutex // guards all
	all []*Fault
}

func (f *faults) add(n *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, n)
}

func (f *faults) remove(o *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = slices.DeleteFunc(f.all, func(x *Fault) bool { return x == o })
}

// end lets nobody wait any more.
func (f *faults) end() { f.endOnce.Do(func() { close(f.ended) }) }

// take returns the fault that the request meets, or nil.
func (f *faults) take(r *http.Request) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/events") {
		return nil
	}
	for i, o := range f.all {
		if o.match(r) {
			if o.once {
				f.all = slices.Delete(f.all, i, i+1)
			}
			return o
		}
	}
	return nil
}

// idle waits for d, or for good if d is 0. It returns false if the request ended first.
func (f *faults) idle(r *http.Request, d time.Duration) bool {
	var passed <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		passed = t.C
	}
	select {
	case <-passed:
		return true
	case <-r.Context().Done():
	case <-f.ended:
	}
	return false
}

// outlive returns a context for work that goes on when the request is over, and ends with the server.
func (f *faults) outlive(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	go func() {
		select {
		case <-f.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// wrap puts the faults before a door, for as long as its process lives.
func (f *faults) wrap(process context.Context, s *Server, door http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.begin() {
			panic(http.ErrAbortHandler)
		}
		defer s.working.Done()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(process, cancel)()
		r = r.WithContext(ctx)
		if o := f.take(r); o != nil {
			o.act(w, r, door, o.struck)
			return
		}
		door.ServeHTTP(w, r)
	})
}

func copyOf(ctx context.Context, r *http.Request, body []byte) *http.Request {
	c := r.Clone(ctx)
	c.Body = io.NopCloser(bytes.NewReader(body))
	return c
}
