package sim

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFaultsApply checks that the faults which make faults plants can still be
// planted. Whether they are found it takes minutes to see.
func TestFaultsApply(t *testing.T) {
	patches, err := filepath.Glob("testdata/faults/*.patch")
	if err != nil || len(patches) == 0 {
		t.Fatalf("%d patches, %v", len(patches), err)
	}
	for _, patch := range patches {
		b, err := os.ReadFile(patch)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(b), "Promise: P") {
			t.Errorf("%s does not say which promise it breaks", patch)
		}
		cmd := exec.CommandContext(t.Context(), "git", "apply", "--check", filepath.Join("sim", patch))
		cmd.Dir = ".."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", patch, err, out)
		}
	}
}
