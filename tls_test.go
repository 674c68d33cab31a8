package concordat_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
)

// authority signs the certificates of a test's members.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func sign(t testing.TB, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{key: newKey(t), pool: x509.NewCertPool()}
	a.cert = sign(t, template, template, a.key, a.key)
	a.pool.AddCert(a.cert)
	return a
}

// certifiedHost is where the certificates are good for.
const certifiedHost = "127.0.0.1"

// member returns what one member needs.
func (a *authority) member(t testing.TB) *tls.Config {
	t.Helper()
	key := newKey(t)
	cert := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.ParseIP(certifiedHost)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key, a.key)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
		RootCAs:      a.pool, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	listen := net.JoinHostPort(certifiedHost, "0")
	g := openGroup(t, 3, func(c *concordat.Config) { c.TLS, c.Listen = a.member(t), listen })
	for i, n := range g.nodes {
		mustPut(t, n, string(rune('a'+i)), "v")
	}
	mustAgree(t, g.nodes...)

	for _, c := range []struct {
		name string
		tls  func() *tls.Config
	}{
		{"without TLS", func() *tls.Config { return nil }},
		{"without a certificate", func() *tls.Config {
			c := a.member(t)
			c.Certificates = nil
			return c
		}},
		{"with a certificate of another authority", func() *tls.Config {
			c := newAuthority(t).member(t)
			c.RootCAs = a.pool
			return c
		}},
		{"that believes another authority", func() *tls.Config {
			c := a.member(t)
			c.RootCAs = newAuthority(t).pool
			return c
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := joiner(t, g.nodes[0])
			cfg.TLS, cfg.Listen = c.tls(), listen
			n := mustStart(t, cfg)
			eventually(t, "it to be turned away by the seed", func() bool {
				return strings.Contains(n.Status().Diagnosis.Text, cfg.Seeds[0])
			})
			mustClose(t, n)
		})
	}
	if got := len(members(g.nodes[0])); got != 3 {
		t.Errorf("%d members, want 3", got)
	}
}

func TestTLSWithoutClientAuth(t *testing.T) {
	t.Parallel()
	cfg := founder(t)
	cfg.TLS = newAuthority(t).member(t)
	cfg.TLS.ClientAuth = tls.NoClientCert
	mustRefuse(t, cfg, concordat.ErrInvalid, "ClientAuth")
}
