package exchange

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
)

// ClientConfig says how the servers of trusted issuers are told from others.
type ClientConfig struct {
	// CABundle is a PEM file of certificates to trust besides the system's. It
	// is read once; empty = none.
	CABundle string
	// Insecure takes any certificate. Whoever is on the way to an issuer's
	// server can then put keys of its own in the place of the issuer's, and so
	// be anybody to us.
	Insecure bool
}

// NewClient returns a client for [Config.Client]. The error names every
// certificate of the bundle that is of no use.
func NewClient(c ClientConfig) (*http.Client, error) {
	settings := &tls.Config{InsecureSkipVerify: c.Insecure}
	if c.CABundle != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("the system's certificates: %w", err)
		}
		if err := addBundle(roots, c.CABundle); err != nil {
			return nil, err
		}
		settings.RootCAs = roots
	}
	return &http.Client{Transport: newTransport(settings)}, nil
}

// newTransport returns a transport that uses no connection twice, for the
// reason that package jwks gives for its own.
func newTransport(settings *tls.Config) *http.Transport {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if standard, ok := http.DefaultTransport.(*http.Transport); ok {
		t = standard.Clone()
	}
	t.DisableKeepAlives = true
	t.TLSClientConfig = settings
	return t
}

// addBundle adds the certificates of a PEM file to roots.
func addBundle(roots *x509.CertPool, path string) error {
	rest, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var faults []error
	blocks, begun := 0, bytes.Count(rest, []byte("-----BEGIN "))
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks++
		if block.Type != "CERTIFICATE" {
			faults = append(faults, fmt.Errorf("block %d is a %s, want a CERTIFICATE", blocks, block.Type))
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			faults = append(faults, fmt.Errorf("block %d: %s", blocks, strings.TrimPrefix(err.Error(), "x509: ")))
			continue
		}
		roots.AddCert(certificate)
	}
	// The decoder skips what it cannot read, as it does text between blocks.
	if begun > blocks {
		faults = append(faults, fmt.Errorf("%d of %d blocks are not PEM", begun-blocks, begun))
	}
	if begun == 0 {
		faults = append(faults, errors.New("no certificate in it, want at least one in PEM"))
	}
	if len(faults) > 0 {
		return fmt.Errorf("%s: %w", path, errors.Join(faults...))
	}
	return nil
}
