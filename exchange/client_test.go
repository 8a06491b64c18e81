package exchange

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// authority is a certificate authority of a test's own.
type authority struct {
	key         crypto.Signer
	certificate *x509.Certificate
	pem         string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "a private CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{key, certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// vouch returns a certificate for a host that lives until end.
func (a *authority) vouch(t testing.TB, host string, end time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// secure makes p serve https with a certificate, at a new URL.
func (p *provider) secure(t testing.TB, certificate tls.Certificate) {
	t.Helper()
	s := httptest.NewUnstartedServer(p.Config.Handler)
	s.Config.ErrorLog = log.New(&strings.Builder{}, "", 0) // the handshakes that are meant to fail
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	s.StartTLS()
	t.Cleanup(s.Close)
	p.Server = s
}

func writeFile(t testing.TB, path, content string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// warnings collects what an exchanger warns of.
type warnings struct {
	mu    sync.Mutex
	lines []string
}

func (w *warnings) add(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}

func (w *warnings) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.lines, "\n")
}

// TestPrivateCA is one row for each certificate a provider may show and each
// setting: what the caller is told, and what the operator.
func TestPrivateCA(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		bundle      string
		certificate tls.Certificate
		warned      string // "" = it works
	}{
		"no bundle":     {"", ours.vouch(t, "127.0.0.1", later), "certificate signed by unknown authority"},
		"private CA":    {ours.pem, ours.vouch(t, "127.0.0.1", later), ""},
		"several CAs":   {"# theirs\n" + theirs.pem + "\n# and ours\n" + ours.pem, ours.vouch(t, "127.0.0.1", later), ""},
		"Windows lines": {strings.ReplaceAll(ours.pem, "\n", "\r\n"), ours.vouch(t, "127.0.0.1", later), ""},
		"other CA":      {theirs.pem, ours.vouch(t, "127.0.0.1", later), "certificate signed by unknown authority"},
		"expired":       {ours.pem, ours.vouch(t, "127.0.0.1", time.Now().Add(-time.Minute)), "certificate has expired"},
		"other host":    {ours.pem, ours.vouch(t, "idp.example.com", later), "doesn't contain any IP SANs"},
		"other address": {ours.pem, ours.vouch(t, "127.0.0.2", later), "certificate is valid for 127.0.0.2, not 127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, nil)
			p.secure(t, c.certificate)
			var settings ClientConfig
			if c.bundle != "" {
				settings.CABundle = writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), c.bundle)
			}
			for _, settings.Insecure = range []bool{false, true} {
				client, err := NewClient(settings)
				require.NoError(t, err)
				var warned warnings
				g := newGateway(t, aliceMayInvoke(t, p, "*"), func(c *Config) { c.Client, c.Warnf = client, warned.add })
				_, err = g.exchange(t, p.token(t, nil), "")
				if c.warned == "" || settings.Insecure {
					require.NoError(t, err)
					require.Empty(t, warned.String())
					continue
				}
				requireRefused(t, err, TemporarilyUnavailable, "the keys of issuer "+p.URL+" cannot be fetched")
				require.NotContains(t, err.Error(), "certificate", "the caller has no business with that")
				require.Contains(t, warned.String(), "JwtIssuer idp ("+p.URL+"): cannot fetch the issuer's keys: "+p.URL)
				require.Contains(t, warned.String(), c.warned)
			}
		})
	}
}

func TestBadBundle(t *testing.T) {
	t.Parallel()
	good := newAuthority(t).pem
	bad := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
	for name, c := range map[string]struct{ content, says string }{
		"empty":         {"", "no certificate in it, want at least one in PEM"},
		"text":          {"see the other file\n", "no certificate in it"},
		"DER":           {"\x30\x82\x01\x00", "no certificate in it"},
		"bad one":       {good + bad, "block 2: malformed certificate"},
		"cut off":       {good + good[:len(good)/2], "1 of 2 blocks are not PEM"},
		"bad base64":    {strings.Replace(good, "MII", "M?I", 1), "1 of 1 blocks are not PEM"},
		"a key":         {good + "-----BEGIN PRIVATE KEY-----\neA==\n-----END PRIVATE KEY-----\n", "block 2 is a PRIVATE KEY, want a CERTIFICATE"},
		"all are named": {bad + good + bad, "block 1: malformed certificate\nblock 3: malformed certificate"},
	} {
		path := writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), c.content)
		_, err := NewClient(ClientConfig{CABundle: path})
		require.ErrorContains(t, err, path+": "+c.says, name)
		require.NotContains(t, err.Error(), "eA==")
	}
	_, err := NewClient(ClientConfig{CABundle: "/nonexistent/ca.pem"})
	require.ErrorContains(t, err, "/nonexistent/ca.pem: no such file")
	_, err = NewClient(ClientConfig{CABundle: t.TempDir()})
	require.ErrorContains(t, err, "is a directory")
}
