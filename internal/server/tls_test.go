package server

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

// writePair writes a certificate for localhost with the given name, and its key.
func writePair(t *testing.T, certFile, keyFile, name string, modified time.Time) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), modified)
	writeFile(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), modified)
}

func writeFile(t *testing.T, name string, data []byte, modified time.Time) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, modified, modified); err != nil {
		t.Fatal(err)
	}
}

func openTLS(t *testing.T) (d *door, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, "first", time.Unix(1000, 0))
	d = openDoor(t, func(c *Config) { c.TLSCert, c.TLSKey = cert, key })
	d.url = "https://" + d.addr
	return d, cert, key
}

// overTLS makes the client speak TLS, trusting everybody, with HTTP/2 if wanted.
func (d *door) overTLS(h2 bool) {
	var p http.Protocols
	p.SetHTTP1(!h2)
	p.SetHTTP2(h2)
	d.check.base = &http.Transport{Protocols: &p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
}

func TestTLS(t *testing.T) {
	d, _, _ := openTLS(t)
	for _, h2 := range []bool{false, true} {
		d.overTLS(h2)
		key := d.take("a")
		d.want(200, "released", "GET", "/releaseLock/a/"+key, "")
		d.check.base.CloseIdleConnections()
	}
	for version, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c, err := tls.Dial("tcp", d.addr, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if (err == nil) != good {
			t.Errorf("version %x: %v", version, err)
		}
		if err == nil {
			_ = c.Close()
		}
	}
	if got := d.raw("GET /getLock/plain HTTP/1.1\r\nHost: localhost\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 400") {
		t.Errorf("plain HTTP got %q", got)
	}
}

// presented is the name in the certificate that the server shows now.
func (d *door) presented() string {
	d.t.Helper()
	c, err := tls.Dial("tcp", d.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestCertReload(t *testing.T) {
	d, cert, key := openTLS(t)
	look := func() { // as if a second had passed
		d.server.cert.mu.Lock()
		defer d.server.cert.mu.Unlock()
		d.server.cert.checked = time.Time{}
	}
	if got := d.presented(); got != "first" {
		t.Fatalf("presents %s", got)
	}
	writePair(t, cert, key, "second", time.Unix(2000, 0))
	look()
	if got := d.presented(); got != "second" {
		t.Errorf("presents %s after the change", got)
	}
	writeFile(t, key, []byte("no key"), time.Unix(3000, 0))
	for range 3 {
		look()
		if got := d.presented(); got != "second" {
			t.Errorf("presents %s beside a broken file", got)
		}
	}
	if n := strings.Count(d.logs.String(), "the old one stays"); n != 1 {
		t.Errorf("%d complaints, want 1", n)
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	look()
	if got := d.presented(); got != "second" {
		t.Errorf("presents %s beside a missing file", got)
	}
	writePair(t, cert, key, "third", time.Unix(4000, 0))
	look()
	if got := d.presented(); got != "third" {
		t.Errorf("presents %s after the repair", got)
	}
	// Within a second the files are not looked at again.
	writePair(t, cert, key, "fourth", time.Unix(5000, 0))
	d.server.cert.mu.Lock()
	d.server.cert.checked = time.Now().Add(time.Minute)
	d.server.cert.mu.Unlock()
	if got := d.presented(); got != "third" {
		t.Errorf("presents %s too early", got)
	}
}
