package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certs makes a CA and certificates of nodes.
func certs(t testing.TB, names ...string) map[string]TLSFiles {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if err := MakeCA(dir); err != nil {
		t.Fatal(err)
	}
	files := map[string]TLSFiles{}
	for _, n := range names {
		var err error
		if files[n], err = MakeNode(dir, n, []string{"127.0.0.1", n + ".example"}); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// special makes a certificate of the same CA that is unlike MakeNode's.
func special(t testing.TB, ca TLSFiles, change func(*x509.Certificate)) TLSFiles {
	t.Helper()
	dir := filepath.Dir(ca.CA)
	caCert, caKey, err := loadCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := nodeTemplate("n1", nil, caCert.NotAfter)
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, caCert, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	own := t.TempDir()
	f := TLSFiles{Cert: filepath.Join(own, "c.pem"), Key: filepath.Join(own, "k.pem"), CA: ca.CA}
	if err := writePair(f.Cert, f.Key, der, key); err != nil {
		t.Fatal(err)
	}
	return f
}

func role(uris ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.URIs = nil
		for _, s := range uris {
			u, err := url.Parse(s)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// posing has p show and trust other files than it would take itself.
func posing(p *Peer, f TLSFiles, t testing.TB) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	p.creds.mu.Lock()
	defer p.creds.mu.Unlock()
	p.creds.pair, p.creds.checked = &pair, time.Now().Add(time.Hour)
}

func TestTLSHandshakeMatrix(t *testing.T) {
	files, foreign := certs(t, "n1", "n2"), certs(t, "n1")
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	early := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }
	clientOnly := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	serverOnly := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	for _, c := range []struct {
		name     string
		file     TLSFiles
		dials    string // how n1's dialling ends; empty: it succeeds
		isDialed string // how dialling n1 ends
	}{
		{"good", files["n1"], "", ""},
		{"any name", special(t, files["n1"], role("doubledutch:node")), "", ""},
		{"several names", special(t, files["n1"], role("spiffe://x/y", "doubledutch:node:n7", "doubledutch:node:n1")), "", ""},
		{"other name", special(t, files["n1"], role("doubledutch:node:n7")), "not for a node named n1", "not for a node named n1"},
		{"longer name", special(t, files["n1"], role("doubledutch:node:n11")), "not for a node named n1", "not for a node named n1"},
		{"empty name", special(t, files["n1"], role("doubledutch:node:")), "does not accept", "no role of a node"},
		{"no role", special(t, files["n1"], role()), "does not accept", "no role of a node"},
		{"another role", special(t, files["n1"], role("doubledutch:client:n1")), "does not accept", "no role of a node"},
		{"expired", special(t, files["n1"], expired), "does not accept", "expired"},
		{"not valid yet", special(t, files["n1"], early), "does not accept", "not yet valid"},
		{"for clients only", special(t, files["n1"], clientOnly), "", "incompatible key usage"},
		{"for servers only", special(t, files["n1"], serverOnly), "does not accept", ""},
		{"another CA", foreign["n1"], "does not accept", "unknown authority"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := start(t, "n1", withTLS(files["n1"])), start(t, "n2", withTLS(files["n2"]))
			posing(a, c.file, t)
			for _, kind := range []Kind{Call, Raft} {
				conn, err := a.dial(patience(t), b.Addr(), kind)
				checkRefusal(t, err, c.dials)
				if conn != nil {
					conn.abort()
				}
				conn, err = b.dial(patience(t), a.Addr(), kind)
				checkRefusal(t, err, c.isDialed)
				if conn != nil {
					conn.abort()
				}
			}
		})
	}
}

func TestNoCertificateNoPeer(t *testing.T) {
	b := start(t, "n2", withTLS(certs(t, "n2")["n2"]))
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		c := tls.Client(rawDial(t, b), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		_, err := c.Write(appendHello(nil, hello{1, 1, Raft, ident("n1")}))
		if err == nil {
			_, err = readAnswer(c)
		}
		if err == nil || !isRemoteAlert(err) {
			t.Errorf("TLS %x without a certificate: %v", version, err)
		}
		_ = c.Close()
	}
	eventually(t, "counted", func() bool { return b.Stats().Strangers == 2 })
}

func TestOwnCertificateMustFit(t *testing.T) {
	files := certs(t, "n1", "n2")
	noRole := special(t, files["n1"], role())
	mixed := TLSFiles{Cert: files["n1"].Cert, Key: files["n2"].Key, CA: files["n1"].CA}
	noCA := TLSFiles{Cert: files["n1"].Cert, Key: files["n1"].Key, CA: files["n1"].Key}
	missing := TLSFiles{Cert: files["n1"].Cert + "x", Key: files["n1"].Key, CA: files["n1"].CA}
	for _, f := range []TLSFiles{noRole, mixed, noCA, missing} {
		p, err := Listen(Config{Listen: "127.0.0.1:0", TLS: &f, Self: func() Identity { return ident("n1") }, Handle: echo})
		if err == nil {
			_ = p.Close()
			t.Errorf("%+v is accepted", f)
		} else if !strings.Contains(err.Error(), "--cluster-cert") {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func TestRenewedFilesAreTakenUp(t *testing.T) {
	files := certs(t, "n1")
	log := newSyncBuffer()
	p := start(t, "n1", withTLS(files["n1"]), logging(log))
	look := func() *tls.Certificate {
		p.creds.mu.Lock()
		p.creds.checked = time.Time{}
		p.creds.mu.Unlock()
		pair, _ := p.creds.current()
		return pair
	}
	first := look()
	if _, err := MakeNode(filepath.Dir(files["n1"].CA), "n1", nil); err != nil {
		t.Fatal(err)
	}
	second := look()
	if second == first {
		t.Error("the renewed certificate is not used")
	}
	if err := os.WriteFile(files["n1"].Cert, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if look() != second {
			t.Error("rubbish replaces the certificate")
		}
	}
	if n := strings.Count(log.String(), "cannot be used"); n != 1 {
		t.Errorf("%d lines about rubbish, want 1", n)
	}
}

func TestCertsFiles(t *testing.T) {
	files := certs(t, "n1")
	dir := filepath.Dir(files["n1"].CA)
	for _, name := range []string{CAKeyFile, "n1-key.pem"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if err := MakeCA(dir); err == nil {
		t.Error("the CA is replaced")
	}
	for _, bad := range []string{"", "../n1", "a b", "ca", "ca-key", "n1-key"} {
		if _, err := MakeNode(dir, bad, nil); err == nil {
			t.Errorf("a node may be called %q", bad)
		}
	}
	pair, err := tls.LoadX509KeyPair(files["n1"].Cert, files["n1"].Key)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(pair.Leaf.NotAfter); left < nodeValidity-time.Hour || left > nodeValidity {
		t.Errorf("valid for %v", left)
	}
	if err := pair.Leaf.VerifyHostname("n1.example"); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}
