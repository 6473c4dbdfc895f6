//go:build linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate is a self-made one for 127.0.0.1, in two files.
type certificate struct{ cert, key string }

// write makes a new pair with the serial number and replaces the files by it.
func (c certificate) write(t *testing.T, serial int64) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "doubledutch test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	replace(t, c.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	replace(t, c.cert, certPEM)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(certPEM) {
		t.Fatal("the certificate cannot be read back")
	}
	return pool
}

// replace puts a whole new file in the place of an old one.
func replace(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// startTLS starts a server with a certificate whose serial number is 1.
func startTLS(t *testing.T) (*server, certificate, *x509.CertPool) {
	t.Helper()
	dir := t.TempDir()
	c := certificate{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	pool := c.write(t, 1)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true,
	}}
	s := start(t, options{client: client, args: []string{"--tls-cert", c.cert, "--tls-key", c.key}})
	return s, c, pool
}

func TestTLSWithCurl(t *testing.T) {
	t.Parallel()
	needCurl(t)
	s, c, _ := startTLS(t)
	if !strings.HasPrefix(s.base, "https://") {
		t.Fatalf("the server says it serves on %s", s.base)
	}
	for flag, version := range map[string]string{"--http1.1": "1.1", "--http2": "2"} {
		path := "/Lock/" + canaryName + "TLS" + strings.ReplaceAll(version, ".", "_")
		status, body := curl(t, "--cacert", c.cert, flag, s.base+strings.Replace(path, "/Lock/", "/getLock/", 1))
		if status != http.StatusOK || !seedBody("KEY", body) {
			t.Errorf("%s: %d %q", flag, status, body)
		}
		status, answer := curl(t, "--cacert", c.cert, flag, "-o", os.DevNull, "-w", "\n--status--%{http_code}%{stderr}",
			s.base+strings.Replace(path, "/Lock/", "/releaseLock/", 1)+"/"+body)
		if status != http.StatusOK {
			t.Errorf("%s: %d %q", flag, status, answer)
		}
		resp, err := s.client.Get(s.base + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Errorf("a client that can speak HTTP/2 was answered in %s", resp.Proto)
		}
	}
	// Without TLS there is nothing to be had.
	if status, body := curl(t, strings.Replace(s.base, "https:", "http:", 1)+"/getLock/"+canaryName); status != http.StatusBadRequest {
		t.Errorf("plain HTTP: %d %q", status, body)
	}
}

// serial connects and returns the serial number of the certificate that it is shown.
func serial(t *testing.T, s *server, config *tls.Config) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", s.host(), config)
	if err != nil {
		return 0
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	s, c, pool := startTLS(t)
	if got := serial(t, s, &tls.Config{RootCAs: pool}); got != 1 {
		t.Fatalf("the serial number is %d", got)
	}
	replace(t, c.cert, []byte("half a certificate")) // what does not load is not used
	s.awaitSerial("the bad certificate is complained about", func() bool { return strings.Contains(s.err.String(), "the old one stays") }, pool)
	if got := serial(t, s, &tls.Config{RootCAs: pool}); got != 1 {
		t.Errorf("after a bad certificate, the serial number is %d", got)
	}
	next := c.write(t, 2)
	s.awaitSerial("the new certificate is shown", func() bool { return serial(t, s, &tls.Config{RootCAs: next}) == 2 }, pool)
	if r := s.get("/getLock/" + canaryName); !r.ok() { // a connection from before, or a new one that must fail
		t.Logf("with the old certificate: %v", r.err)
	} else {
		evidence.secret(r.body)
	}
}

// awaitSerial keeps connecting, since the files are looked at when somebody connects, until done.
func (s *server) awaitSerial(what string, done func() bool, pool *x509.CertPool) {
	s.t.Helper()
	eventually(s.t, soon, what, func() bool {
		_ = serial(s.t, s, &tls.Config{RootCAs: pool})
		return done()
	})
}

func TestTLSVersions(t *testing.T) {
	t.Parallel()
	s, _, pool := startTLS(t)
	for _, c := range []struct {
		version uint16
		want    int64
	}{{tls.VersionTLS10, 0}, {tls.VersionTLS11, 0}, {tls.VersionTLS12, 1}, {tls.VersionTLS13, 1}} {
		if got := serial(t, s, &tls.Config{RootCAs: pool, MinVersion: c.version, MaxVersion: c.version}); got != c.want {
			t.Errorf("%s: serial number %d, want %d", tls.VersionName(c.version), got, c.want)
		}
	}
}
