//go:build linux

package torture

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// How long a client waits for an answer beyond the wait that it asked for. Without a quorum, the answer comes within 5 s.
const (
	answerWithin = 8 * time.Second
	dialWithin   = time.Second
)

// doors are the addresses at which clients find the nodes.
type doors struct {
	names []string
	urls  map[string]string
}

func (d *doors) any(r *rand.Rand) string { return d.names[r.IntN(len(d.names))] }

// clients is what all clients of a run share.
type clients struct {
	doors   *doors
	history *history
	http    *http.Client
	meddler *meddler
}

func newClients(d *doors, h *history) *clients {
	c := &clients{doors: d, history: h, http: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 500, DisableCompression: true, IdleConnTimeout: 20 * time.Second,
		DialContext: (&net.Dialer{Timeout: dialWithin}).DialContext,
	}}}
	c.meddler = &meddler{clients: c}
	return c
}

// do sends the op to its node, perhaps with the meddler in between, and puts it into the history with its answer.
func (c *clients) do(ctx context.Context, o *op) *op {
	ctx, cancel := context.WithTimeout(ctx, answerWithin+time.Duration(max(o.Wait, 0)*float64(time.Second)))
	defer cancel()
	o.Call = c.history.now()
	c.meddler.pass(ctx, o, func() { c.send(ctx, o) })
	o.Return = c.history.now()
	c.history.add(o)
	return o
}

// send makes the request and reads the answer into o.
func (c *clients) send(ctx context.Context, o *op) {
	method, path, body := o.request()
	// Go's transport sends a request again by itself when an old connection breaks: a refused connection may be the second try.
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, method, c.doors.urls[o.Node]+path, strings.NewReader(body))
	if err != nil {
		panic(err) // of what the harness itself wrote
	}
	o.setHeaders(req.Header, body)
	resp, err := c.http.Do(req)
	if err != nil {
		o.fail(err, connected.Load())
		return
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		o.fail(err, true)
		return
	}
	o.Status = resp.StatusCode
	o.understand(b)
}

// fail notes why there is no answer.
func (o *op) fail(err error, connected bool) {
	var dial *net.OpError
	o.Err = err.Error()
	o.Unsent = !connected && errors.As(err, &dial) && dial.Op == "dial"
}

// request is what goes over the wire.
func (o *op) request() (method, path, body string) {
	lock, session := "/v1/locks/"+url.PathEscape(o.Lock), "/v1/sessions/"+o.Session
	switch o.Kind {
	case acquire:
		fields := map[string]any{"key": o.Key, "owner": o.Owner, "wait": o.Wait}
		if o.Session != "" {
			fields["session"] = o.Session
		} else {
			fields["ttl"] = o.TTL
		}
		return http.MethodPost, lock, encode(fields)
	case renew:
		fields := map[string]any{"key": o.Key}
		if o.Session != "" {
			fields["session"] = o.Session
		}
		return http.MethodPost, lock + "/renew", encode(fields)
	case release:
		return http.MethodDelete, lock, ""
	case read:
		return http.MethodGet, lock, ""
	case openSession:
		return http.MethodPost, "/v1/sessions", encode(map[string]any{"id": o.Session, "ttl": o.TTL, "owner": o.Owner})
	case renewSession:
		return http.MethodPost, session + "/renew", "{}"
	case endSession:
		return http.MethodDelete, session, ""
	}
	panic("unknown kind " + o.Kind)
}

func (o *op) setHeaders(h http.Header, body string) {
	if body != "" {
		h.Set("Content-Type", "application/json")
	}
	if o.Kind == release {
		h.Set("Lock-Key", o.Key)
		if o.Session != "" {
			h.Set("Lock-Session", o.Session)
		}
	}
	if o.Number != 0 {
		h.Set("Idempotency-Key", strconv.FormatUint(o.Number, 10))
	}
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of what the harness itself wrote
	}
	return string(b)
}

// understand reads the body of an answer.
func (o *op) understand(body []byte) {
	var a struct {
		Code    string
		Token   uint64
		Expires float64 `json:"expires_in"`
		Waited  float64
		Held    bool
		Holder  *struct {
			Owner string
			Token uint64
		}
		Holders []struct {
			Owner string
			Token uint64
		}
		Queue []struct{ Owner string }
	}
	if err := json.Unmarshal(body, &a); err != nil {
		o.Status, o.Err = 0, "not JSON: "+string(body[:min(len(body), 100)])
		return
	}
	o.Code, o.Token, o.Expires, o.Waited, o.Held = a.Code, a.Token, a.Expires, a.Waited, a.Held
	if a.Holder != nil {
		o.HolderOwner, o.HolderToken = a.Holder.Owner, a.Holder.Token
	}
	if len(a.Holders) > 0 {
		o.HolderOwner, o.HolderToken = a.Holders[0].Owner, a.Holders[0].Token
	}
	for _, w := range a.Queue {
		o.Queue = append(o.Queue, w.Owner)
	}
}
