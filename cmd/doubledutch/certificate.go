package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
)

// certificateName is a name by which the certificate in file can be checked: host itself if it is one, else its first.
func certificateName(file, host string) string {
	leaf, err := readCertificate(file)
	switch {
	case err != nil, leaf.VerifyHostname(host) == nil, len(leaf.DNSNames) == 0:
		return host
	case leaf.VerifyHostname("localhost") == nil:
		return "localhost"
	default:
		return certificateHosts(file)[0]
	}
}

// certificateHosts are the host names that the certificate in file is for, with www for a star. A page of another site
// cannot get past the certificate under a name that is not among them, so they need no --allowed-host.
func certificateHosts(file string) []string {
	leaf, err := readCertificate(file)
	if err != nil {
		return nil // there is none, or the server itself will complain
	}
	hosts := make([]string, 0, len(leaf.DNSNames))
	for _, name := range leaf.DNSNames {
		hosts = append(hosts, strings.Replace(name, "*", "www", 1))
	}
	return hosts
}

// readCertificate returns the first certificate in a PEM file.
func readCertificate(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", file)
	}
	return x509.ParseCertificate(block.Bytes)
}
