//go:build !upgrade_test

package main

import (
	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
)

// asBuild gives a node the flags by which it is another build than it is: none.
func asBuild(*cobra.Command) func(*concordat.Config) error {
	return func(*concordat.Config) error { return nil }
}
