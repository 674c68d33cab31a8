//go:build !race

package sim

// sweepSeeds is how many worlds the tests run.
const sweepSeeds = 40
