//go:build race

package raftlog_test

// modelChecks is how many sequences of calls the model is tried on. Pebble
// checks itself under the race detector, and notes the stack of whoever reads a
// table: that is worth a few, and make test runs the rest without it.
const modelChecks = "15"
