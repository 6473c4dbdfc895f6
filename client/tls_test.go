package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/doubledutch-lock/doubledutch/client"
)

// A TLS server with a key, as a proxy before the real one.
func TestTLSAndAPIKey(t *testing.T) {
	plain, stop := serve()
	t.Cleanup(stop)
	target, err := url.Parse(plain)
	if err != nil {
		t.Fatal(err)
	}
	versions := make(chan int, 100)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.URL.RawPath = r.In.URL.EscapedPath()
	}}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		versions <- r.ProtoMajor
		if r.Header.Get("Authorization") != "Bearer sesame" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // one client does not trust it
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	trust := client.WithTLSConfig(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	ctx := within(t)

	l := must[*client.Lease](t)(dial(t, s.URL, trust, client.WithAPIKey("sesame")).Lock(ctx, "x"))
	if v := <-versions; v != 2 {
		t.Errorf("HTTP/%d over TLS", v)
	}
	_, err = dial(t, s.URL, trust).TryLock(ctx, "x")
	wantErr(t, err, client.ErrRefused)
	_, err = dial(t, s.URL, client.WithPatience(time.Second)).TryLock(ctx, "x") // does not trust the certificate
	wantErr(t, err, client.ErrUnavailable)
	unlock(t, l)
}

func TestNewRefuses(t *testing.T) {
	for _, endpoints := range [][]string{nil, {""}, {"ftp://x"}, {"http://x?y"}, {"http://user:secret@x"}, {"http://"}} {
		if _, err := client.New(endpoints); err == nil {
			t.Errorf("%q are no endpoints", endpoints)
		}
	}
	for i, o := range []client.Option{
		client.WithHTTPClient(nil), client.WithHTTPClient(&http.Client{Timeout: time.Second}), client.WithTryTimeout(0),
		client.WithMargin(-1), client.WithLogger(nil),
	} {
		if _, err := client.New([]string{"x"}, o); err == nil {
			t.Errorf("option %d is taken", i)
		}
	}
	if _, err := client.New([]string{"x"}, client.WithTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12}), client.WithHTTPClient(&http.Client{})); err == nil {
		t.Error("TLS with a client of its own is taken")
	}
}
