package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a TLS certificate whose files are read again when they change. A new pair that does not load leaves
// the old one in use.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex // guards what follows; held while two small files are read, at most once a second
	current *tls.Certificate
	seen    fileStamps
	refused fileStamps // the last files that did not load
	checked time.Time
}

// How long a look at the files holds.
const certCheckEvery = time.Second

// fileStamps tells two states of the files apart.
type fileStamps [2]struct {
	modified time.Time
	size     int64
}

func newCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	stamps, err := c.stamps()
	if err == nil {
		err = c.load(stamps)
	}
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return c, nil
}

// get is tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= certCheckEvery {
		c.checked = now
		c.refreshLocked()
	}
	return c.current, nil
}

func (c *certificate) refreshLocked() {
	stamps, err := c.stamps()
	if err != nil {
		stamps = fileStamps{}
	}
	if err == nil && stamps == c.seen {
		return
	}
	if err == nil {
		err = c.load(stamps)
	}
	if err == nil {
		c.log.Info("TLS certificate loaded anew")
		return
	}
	if stamps != c.refused {
		c.log.Error("the changed TLS certificate cannot be used; the old one stays", "error", err)
	}
	c.refused = stamps
}

// load reads the pair. It is called by newCertificate, or with mu held.
func (c *certificate) load(stamps fileStamps) error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("load certificate: %w", err)
	}
	c.current, c.seen = &pair, stamps
	return nil
}

func (c *certificate) stamps() (fileStamps, error) {
	var f fileStamps
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return f, fmt.Errorf("look at certificate: %w", err)
		}
		f[i].modified, f[i].size = info.ModTime(), info.Size()
	}
	return f, nil
}
