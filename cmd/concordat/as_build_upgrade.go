//go:build upgrade_test

package main

import (
	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
)

// asBuild gives a node the flags by which it is another build than it is, for the
// test of rolling upgrades.
func asBuild(cmd *cobra.Command) func(*concordat.Config) error {
	version := cmd.Flags().String("as-version", "", "say that this is another `version`, as in 0.2.0")
	newest := cmd.Flags().Uint32("as-protocol", 1, "and that it speaks the protocols up to this one")
	_ = cmd.Flags().MarkHidden("as-version")  // it is there
	_ = cmd.Flags().MarkHidden("as-protocol") // and so is this
	return func(c *concordat.Config) error {
		if *version == "" {
			return nil
		}
		return c.AsBuild(*version, *newest)
	}
}
