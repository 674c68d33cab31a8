//go:build upgrade_test

package concordat

import (
	"fmt"

	"github.com/concordatdb/concordat/election"
)

// AsBuild makes of c the configuration of a member of another build: of a version,
// written as in 0.2.0, that speaks the protocols from the first to newest. Tests of
// rolling upgrades have it, and nobody else.
func (c *Config) AsBuild(version string, newest uint32) error {
	v, err := election.ParseVersion(version)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	c.build = build{version: v, oldest: election.FirstProtocol, newest: election.Protocol(newest)}
	return nil
}
