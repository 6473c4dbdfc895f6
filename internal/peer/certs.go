package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// How long certificates are valid, and from when: clocks differ.
const (
	caValidity   = 10 * 365 * 24 * time.Hour
	nodeValidity = 2 * 365 * 24 * time.Hour
	clockSlack   = time.Hour
)

// Files of a small CA, in its directory.
const (
	CACertFile = "ca.pem"
	CAKeyFile  = "ca-key.pem"
)

const (
	pemCert = "CERTIFICATE"
	pemKey  = "PRIVATE KEY"
)

// MakeCA makes a certificate authority for one cluster, valid for 10 years: the files CACertFile and CAKeyFile in dir,
// which is made if need be. It refuses to replace one. Whoever has the key can make nodes of the cluster: it belongs
// on none of them.
func MakeCA(dir string) error {
	for _, name := range []string{CACertFile, CAKeyFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already", filepath.Join(dir, name))
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := newTemplate("doubledutch cluster CA", time.Now(), caValidity)
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	return writePair(filepath.Join(dir, CACertFile), filepath.Join(dir, CAKeyFile), cert, key)
}

// MakeNode makes a key and a certificate for the node name, signed by the CA in dir and valid for 2 years (or as long as
// the CA): the files NAME.pem and NAME-key.pem. It replaces those there are, which is how they are renewed; a running
// node takes up the new ones by itself. hosts, names or IP addresses, are written into the certificate for others; the
// nodes themselves go by the role.
func MakeNode(dir, name string, hosts []string) (TLSFiles, error) {
	files := TLSFiles{
		Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+"-key.pem"), CA: filepath.Join(dir, CACertFile),
	}
	if !plain(name, maxName) || files.Cert == files.CA || strings.HasSuffix(name, "-key") { // files of others
		return files, fmt.Errorf("%q cannot be the name of a node", name)
	}
	ca, caKey, err := loadCA(dir)
	if err != nil {
		return files, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return files, err
	}
	cert, err := x509.CreateCertificate(rand.Reader, nodeTemplate(name, hosts, ca.NotAfter), ca, key.Public(), caKey)
	if err != nil {
		return files, err
	}
	return files, writePair(files.Cert, files.Key, cert, key)
}

func nodeTemplate(name string, hosts []string, end time.Time) *x509.Certificate {
	t := newTemplate(name, time.Now(), nodeValidity)
	if t.NotAfter.After(end) {
		t.NotAfter = end
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	t.URIs = []*url.URL{roleURI(name)}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return t
}

func roleURI(name string) *url.URL { return &url.URL{Scheme: "doubledutch", Opaque: "node:" + name} }

func newTemplate(name string, now time.Time, valid time.Duration) *x509.Certificate {
	var serial [16]byte
	_, _ = rand.Read(serial[:]) // never fails
	serial[0] &= 0x7F
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-clockSlack),
		NotAfter:     now.Add(valid),
	}
}

func loadCA(dir string) (*x509.Certificate, any, error) {
	certDER, err := readPEM(filepath.Join(dir, CACertFile), pemCert)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := readPEM(filepath.Join(dir, CAKeyFile), pemKey)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", CACertFile, err)
	}
	if time.Now().After(cert.NotAfter) {
		return nil, nil, fmt.Errorf("%s has expired on %s", CACertFile, cert.NotAfter.Format(time.DateOnly))
	}
	key, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", CAKeyFile, err)
	}
	return cert, key, nil
}

func readPEM(path, kind string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s holds no %s in PEM form", path, kind)
	}
	return block.Bytes, nil
}

// writePair writes the key first: a node that looks in between finds a pair that does not match, and keeps its old one.
func writePair(certPath, keyPath string, cert []byte, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(keyPath, pemKey, der, 0o600); err != nil {
		return err
	}
	return writePEM(certPath, pemCert, cert, 0o644)
}

// writePEM replaces the file at once, whatever the umask.
func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // when it has not been renamed
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
