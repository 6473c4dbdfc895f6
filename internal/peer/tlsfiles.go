package peer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// TLSFiles names PEM files: the node's certificate with its chain, its private key, and the certificates of the CA
// that the cluster trusts. They are read again when they change; files that do not fit leave the old ones in use.
type TLSFiles struct{ Cert, Key, CA string }

// credentials are the loaded files.
type credentials struct {
	files TLSFiles
	log   *slog.Logger

	mu      sync.Mutex // guards what follows; held while three small files are read, at most once a second
	pair    *tls.Certificate
	roots   *x509.CertPool
	seen    stamps
	failing bool
	failed  stamps // the last files that did not load
	checked time.Time
}

// stamps tell two states of the files apart.
type stamps [3]struct {
	modified time.Time
	size     int64
}

func newCredentials(files TLSFiles, log *slog.Logger) (*credentials, error) {
	c := &credentials{files: files, log: log}
	s, err := c.stat()
	if err == nil {
		err = c.loadLocked(s)
	}
	if err != nil {
		return nil, fmt.Errorf("--cluster-cert, --cluster-key, --cluster-ca: %w", err)
	}
	return c, nil
}

// current returns what to show and whom to trust.
func (c *credentials) current() (*tls.Certificate, *x509.CertPool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= certCheckEvery {
		c.checked = now
		c.refreshLocked()
	}
	return c.pair, c.roots
}

func (c *credentials) refreshLocked() {
	s, err := c.stat()
	if err == nil && s == c.seen {
		c.failing = false
		return
	}
	if err == nil {
		err = c.loadLocked(s)
	}
	switch {
	case err == nil:
		c.log.Info("cluster certificates loaded anew")
	case !c.failing || s != c.failed:
		c.log.Error("the changed cluster certificates cannot be used; the old ones stay", "error", err)
	}
	c.failing, c.failed = err != nil, s
}

func (c *credentials) loadLocked(s stamps) error {
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("load certificate: %w", err)
	}
	pem, err := os.ReadFile(c.files.CA)
	if err != nil {
		return fmt.Errorf("load CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("load CA: %s holds no certificate", c.files.CA)
	}
	if len(roleNames(pair.Leaf)) == 0 {
		return errors.New("the certificate names no role of a node: " + roleHelp)
	}
	c.pair, c.roots, c.seen = &pair, roots, s
	return nil
}

func (c *credentials) stat() (stamps, error) {
	var s stamps
	for i, name := range []string{c.files.Cert, c.files.Key, c.files.CA} {
		info, err := os.Stat(name)
		if err != nil {
			return stamps{}, fmt.Errorf("look at certificates: %w", err)
		}
		s[i].modified, s[i].size = info.ModTime(), info.Size()
	}
	return s, nil
}
