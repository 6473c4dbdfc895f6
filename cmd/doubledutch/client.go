package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/doubledutch-lock/doubledutch/cmd/doubledutch/exitcode"
)

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 64 << 20

// clientFlags are the flags that every client verb has which prints an answer.
type clientFlags struct {
	serverFlags
	JSON bool `name:"json" help:"Print the answer as JSON, for programs."`
}

// serverFlags say which server to talk to, and how.
type serverFlags struct {
	Server  string  `default:"http://127.0.0.1:7333" placeholder:"URL" help:"The server to talk to (default ${default})."`
	CACert  string  `name:"ca-cert" placeholder:"FILE" help:"PEM file with the certificates to trust instead of the system's."`
	Timeout seconds `default:"10s" placeholder:"DURATION" help:"How long to wait for the server, on top of the wait for a lock (default ${default})."`
	apiKey
}

// client makes one verb's requests.
type client struct {
	base    string // scheme://host[:port][/path], without a slash at the end
	key     secret
	timeout time.Duration
	http    *http.Client
}

// run opens a client and calls do with a context that SIGINT and SIGTERM end. A program that asked for JSON gets the
// problem document of a refusal on standard output.
func (f *clientFlags) run(c *console, do func(ctx context.Context, server *client) error) error {
	server, err := f.open()
	if err != nil {
		return exitcode.With(exitcode.Usage, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err = do(ctx, server)
	var p *problem
	if f.JSON && errors.As(err, &p) && p.raw != nil {
		_ = printRaw(c.out, p.raw)
	}
	return err
}

// report prints an answer as it came if JSON is wanted, and otherwise decodes it into into and prints what say makes of
// it.
func (f *clientFlags) report(c *console, got *answer, into any, say func() string) error {
	if f.JSON {
		return printRaw(c.out, got.body)
	}
	if err := decode(got.body, into); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.out, say())
	return err
}

// open checks the flags and returns a client. It sends nothing yet.
func (f *serverFlags) open() (*client, error) {
	base, err := serverURL(f.Server)
	if err != nil {
		return nil, err
	}
	key, err := f.load()
	if err != nil {
		return nil, err
	}
	transport, err := f.transport()
	if err != nil {
		return nil, err
	}
	return &client{base: base, key: key, timeout: f.Timeout.duration(), http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// serverURL makes a base URL of what a person gives as --server.
func serverURL(text string) (string, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("--server: %q is not an address such as http://127.0.0.1:7333", text)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// transport trusts the certificates of --ca-cert, if given.
func (f *serverFlags) transport() (*http.Transport, error) {
	trust, err := f.trust()
	return &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     (&net.Dialer{Timeout: f.Timeout.duration()}).DialContext,
		TLSClientConfig: trust,
	}, err
}

// trust returns the TLS configuration for --ca-cert, or nil if that is not given.
func (f *serverFlags) trust() (*tls.Config, error) {
	if f.CACert == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(f.CACert)
	if err != nil {
		return nil, fmt.Errorf("--ca-cert: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca-cert: %s holds no PEM certificate", f.CACert)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// request is one call of the v1 interface.
type request struct {
	method, path string
	body         any           // sent as JSON unless nil
	lastEvent    string        // sent as Last-Event-ID unless empty
	lockKey      string        // sent as Lock-Key unless empty
	wait         time.Duration // what the server may take beyond the time-out; negative: as long as it likes
}

// answer is what the server said.
type answer struct {
	body []byte
	// When the server said it, by its own clock, to the second. The times in the body are of the same clock.
	at time.Time
}

// do sends r and returns a 2xx answer. Any other answer is a *problem; what went wrong on the way to the
// server or back is an *unreachableError. The caller's context ends the request and closes its connection.
func (c *client) do(ctx context.Context, r request) (*answer, error) {
	if r.wait >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout+r.wait)
		defer cancel()
	}
	req, err := c.build(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, newProblem(resp, body)
	}
	return &answer{body: body, at: answeredAt(resp)}, nil
}

// answeredAt is the server's time of day, or this machine's if the server does not tell.
func answeredAt(resp *http.Response) time.Time {
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		return at
	}
	return time.Now()
}

// build makes the HTTP request.
func (c *client) build(ctx context.Context, r request) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "doubledutch/"+version())
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.lockKey != "" {
		req.Header.Set("Lock-Key", r.lockKey)
	}
	if r.lastEvent != "" {
		req.Header.Set("Last-Event-ID", r.lastEvent)
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key.reveal())
	}
	return req, nil
}

// lockPath is the path of a lock's resource. Everything in the name but unreserved characters is percent-encoded, so
// that a slash stays a part of the name.
func lockPath(name string) (string, error) {
	if name == "" || name == "." || name == ".." {
		return "", exitcode.With(exitcode.Usage, fmt.Errorf("%q cannot be the name of a lock", name))
	}
	return "/v1/locks/" + url.PathEscape(name), nil
}

// unreachableError says that no answer came. Whether the server did what it was asked for is not known, unless
// refused is set: then it did not even get the request.
type unreachableError struct {
	text    string
	refused bool
	err     error
}

func (e *unreachableError) Error() string { return e.text }
func (e *unreachableError) Unwrap() error { return e.err }

// unreachable explains why no answer came.
func (c *client) unreachable(err error) error {
	e := &unreachableError{err: err}
	var certificate *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		return exitcode.With(exitcode.Interrupted, errors.New("interrupted"))
	case errors.Is(err, context.DeadlineExceeded):
		e.text = fmt.Sprintf("no answer from %s in time", c.base)
	case errors.As(err, &certificate):
		e.text = fmt.Sprintf("cannot trust the certificate of %s: %v (see --ca-cert)", c.base, certificate.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		e.refused = true
		e.text = fmt.Sprintf("cannot reach %s: is the server running? Start one with \"doubledutch serve\", or say where it is with --server", c.base)
	case errors.As(err, &op) && op.Op == "dial":
		e.refused = true
		e.text = fmt.Sprintf("cannot reach %s: %v", c.base, op.Err)
	default:
		e.text = fmt.Sprintf("lost the connection to %s: %v", c.base, innermost(err))
	}
	return exitcode.With(exitcode.Unavailable, e)
}

// innermost strips the method and URL that net/http puts around an error.
func innermost(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
