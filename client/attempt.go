package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

// request is one thing that is asked of the cluster, however often and of whatever endpoint it takes. It must be harmless to
// repeat.
type request struct {
	method, path string
	query        string
	body         []byte            // JSON; nil for none
	header       map[string]string // beside those that all requests have

	// answerIn is how long a server may take that has nothing to say yet.
	answerIn time.Duration
	// until is when an answer is of no use any more; 0 if it always is. The closer, the more hastily endpoints are tried.
	until instant
	// patience is how long to try; negative: until the context ends.
	patience time.Duration
}

// answer is what came back on a request that succeeded.
type answer struct {
	status int
	body   []byte
	sent   instant // when the request was sent that it answers
}

// attempt is a request on its way to one endpoint.
type attempt struct {
	to      *endpoint
	sent    instant
	cancel  context.CancelFunc
	stalled bool // it has been given up on, unless it answers after all
	// out is set before anything of the request can have left; always, where that cannot be known.
	out   atomic.Bool
	ended chan struct{} // closed when it has come to its end
}

// arrival is what an attempt came to.
type arrival struct {
	of      *attempt
	answer  *answer  // of status 2xx
	problem *Problem // any other
	err     error    // none came
}

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 64 << 20

// try sends r to one endpoint, once.
func (c *Client) try(ctx context.Context, r *request, a *attempt) arrival {
	if c.traced {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { a.out.Store(true) }})
	}
	resp, err := c.send(ctx, r, a.to)
	if err != nil {
		return arrival{of: a, err: c.explain(a.to, err)}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return arrival{of: a, err: c.explain(a.to, err)}
	case resp.StatusCode/100 == 2:
		return arrival{of: a, answer: &answer{status: resp.StatusCode, body: body, sent: a.sent}}
	}
	return arrival{of: a, problem: newProblem(resp.StatusCode, resp.Header, body)}
}

// send makes the HTTP request and returns the answer with its body still to be read.
func (c *Client) send(ctx context.Context, r *request, to *endpoint) (*http.Response, error) {
	target := to.base + r.path
	if r.query != "" {
		target += "?" + r.query
	}
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "doubledutch-go")
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.config.apiKey != "" {
		req.Header.Set("Authorization", "Bearer "+c.config.apiKey)
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	return c.http.Do(req)
}

// noAnswerError says why an endpoint did not answer. It does not unwrap: a time-out on the way must not look like the end of the
// caller's context.
type noAnswerError struct {
	base string
	err  error
	// unsent: the endpoint certainly did not get the request.
	unsent bool
}

func (e *noAnswerError) Error() string { return fmt.Sprintf("%s: %v", e.base, e.err) }

// explain leaves the address out of err: it can have the id of a session in it, which is a secret.
func (c *Client) explain(to *endpoint, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	unsent := errors.As(err, &op) && op.Op == "dial" || errors.As(err, &dns) || errors.As(err, &certificate)
	return &noAnswerError{base: to.base, err: err, unsent: unsent}
}

// mayHaveArrived tells whether the endpoint may have got the request of an attempt that failed with err; nil: it is under way.
func (a *attempt) mayHaveArrived(err error) bool {
	var e *noAnswerError
	return a.out.Load() && !(errors.As(err, &e) && e.unsent)
}
