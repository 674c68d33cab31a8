package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificateFiles writes a certificate for loopback that is its own
// authority, and its key.
func certificateFiles(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestTLS(t *testing.T) {
	cert, key := certificateFiles(t)
	base := t.TempDir()
	secure := []string{
		"--tls-cert", cert, "--tls-key", key, "--tls-ca", cert,
		"--client-tls-cert", cert, "--client-tls-key", key, "--client-tls-ca", cert,
	}
	first := startNode(t, filepath.Join(base, "1"), append(secure, "--bootstrap")...)
	second := startNode(t, filepath.Join(base, "2"), append(secure, "--seeds", first.Address)...)
	with := []string{"--tls-ca", cert, "--tls-cert", cert, "--tls-key", key, "--address"}
	want(t, exitOK, append([]string{"put", "app.t", "k", "v"}, append(with, first.ClientAddress)...)...)
	want(t, exitOK, append([]string{"status"}, append(with, second.ClientAddress)...)...)

	want(t, exitTryAgain, "get", "app.t", "k", "--address", first.ClientAddress)
	want(t, exitTryAgain, "get", "app.t", "k", "--tls-ca", cert, "--address", first.ClientAddress)
	want(t, exitUsage, "get", "app.t", "k", "--tls-ca", cert, "--tls-cert", cert, "--address", first.ClientAddress)
	want(t, exitUsage, "get", "app.t", "k", "--tls-cert", cert, "--tls-key", key, "--address", first.ClientAddress)
	want(t, exitFailure, "get", "app.t", "k", "--tls-ca", key, "--address", first.ClientAddress)
	want(t, exitFailure, "node", "--group", testGroup, "--dir", filepath.Join(base, "3"), "--seeds", first.Address,
		"--listen", loopback, "--client-listen", loopback, "--start-timeout", "300ms")
}
