package sim

import "testing"

// TestSweep runs worlds of the first seeds.
func TestSweep(t *testing.T) {
	report, err := Run(t.Context(), Options{First: 1, Seeds: sweepSeeds})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.Violations {
		t.Error(v)
	}
}
