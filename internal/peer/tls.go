package peer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// RolePrefix starts the URI (a subject alternative name) by which a certificate gives its owner the role of a node:
// "doubledutch:node:NAME" for the node of that name, "doubledutch:node" alone for a node of any name. A certificate
// without such a URI, say one for clients, opens nothing here although the same CA has signed it.
const RolePrefix = "doubledutch:node"

const roleHelp = "it needs the URI " + RolePrefix + ":NAME among its alternative names"

// anyName is what a role without a name allows.
const anyName = ""

// roleNames lists the names that the roles in the certificate allow.
func roleNames(cert *x509.Certificate) []string {
	var names []string
	for _, u := range cert.URIs {
		switch name, found := strings.CutPrefix(u.String(), RolePrefix+":"); {
		case found && name != "":
			names = append(names, name)
		case u.String() == RolePrefix:
			names = append(names, anyName)
		}
	}
	return names
}

// allowsName says whether one of the roles fits the node's name.
func allowsName(roles []string, name string) bool {
	return slices.Contains(roles, name) || slices.Contains(roles, anyName)
}

// config is for both ends.
//
// The other end is judged by CA and role, and in the handshake by name, and not by host name: nodes move between
// addresses, the address is what a configuration entry says and not who answers there, and a host name would prove
// less than the role does, as web servers of the same CA have one too. That is why Go's own check is switched off and
// done by verify, which runs on every connection: without session tickets there are no resumed ones.
func (c *credentials) config(usage x509.ExtKeyUsage) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		InsecureSkipVerify:     true, //nolint:gosec // verify does it
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		NextProtos:             []string{"doubledutch-peer"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, _ := c.current()
			return pair, nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, _ := c.current()
			return pair, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error { return c.verify(s, usage) },
	}
}

func (c *credentials) acceptorConfig() *tls.Config { return c.config(x509.ExtKeyUsageClientAuth) }
func (c *credentials) diallerConfig() *tls.Config  { return c.config(x509.ExtKeyUsageServerAuth) }

func (c *credentials) verify(s tls.ConnectionState, usage x509.ExtKeyUsage) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("no certificate was shown")
	}
	_, roots := c.current()
	others := x509.NewCertPool()
	for _, cert := range s.PeerCertificates[1:] {
		others.AddCert(cert)
	}
	leaf := s.PeerCertificates[0]
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return err
	}
	if len(roleNames(leaf)) == 0 {
		return fmt.Errorf("the certificate of %q names no role of a node: %s", leaf.Subject.CommonName, roleHelp)
	}
	return nil
}
