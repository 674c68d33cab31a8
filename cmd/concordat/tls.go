package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// serverTLS makes the configuration of a server. With a ca, its clients have
// to show a certificate.
func serverTLS(cert, key, ca string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with key %s: %w", cert, key, err)
	}
	config.Certificates = []tls.Certificate{pair}
	if ca == "" {
		return config, nil
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.ClientCAs, err = authorities(ca)
	return config, err
}

// clientTLS makes the configuration of a client: nil without a ca.
func clientTLS(cert, key, ca string) (*tls.Config, error) {
	switch {
	case (cert == "") != (key == ""):
		return nil, usagef("tls-cert and tls-key belong together: give both or none")
	case ca == "" && cert != "":
		return nil, usagef("tls-cert needs tls-ca, the authorities of the server's certificate")
	case ca == "":
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	var err error
	if config.RootCAs, err = authorities(ca); err != nil || cert == "" {
		return config, err
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with key %s: %w", cert, key, err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("TLS authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("TLS authorities: %s holds no PEM certificate", file)
	}
	return pool, nil
}
