package client

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// DefaultTimeout is how long a call goes on whose context has no deadline.
const DefaultTimeout = 30 * time.Second

// Config says how to reach a group. Zero values stand for the defaults; Addresses
// has none.
type Config struct {
	// Addresses, host:port each, are those of some members for clients. One that
	// answers is enough if the members have told their group where clients reach
	// them; those that have not must be named here. They are asked again while some
	// member is in no contact.
	Addresses []string
	// TLS, if set, is how members are spoken to; nil means plaintext.
	TLS *tls.Config
	// Table is that of calls and operations that name none.
	Table Table
	// Read is where calls read that do not say. Default Primary().
	Read ReadFrom
	// Timeout is how long a call goes on whose context has no deadline. Default
	// 30 s.
	Timeout time.Duration
}

// Validate reports what is wrong with c. The error matches ErrInvalid.
func (c Config) Validate() error {
	var errs []error
	if len(c.Addresses) == 0 {
		errs = append(errs, fmt.Errorf("%w: Addresses is empty; name a member or several", ErrInvalid))
	}
	for _, address := range c.Addresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			errs = append(errs, fmt.Errorf("%w: address %q is not host:port", ErrInvalid, address))
		}
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("%w: Timeout is negative; 0 means the default", ErrInvalid))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	return c
}

func (c Config) credentials() credentials.TransportCredentials {
	if c.TLS == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(c.TLS)
}
