//go:build !race

package raftlog_test

// modelChecks is how many sequences of calls the model is tried on.
const modelChecks = "100"
