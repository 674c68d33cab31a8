//go:build !race

package pebblekv

// modelChecks is how many sequences of calls the model is tried on.
const modelChecks = "100"
