//go:build race

package sim

// sweepSeeds is how many worlds the tests run: the race detector takes its
// time, and one goroutine gives it little to find.
const sweepSeeds = 8
