package house

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rules is everything that is checked. TestRules has a broken source for each.
var rules = []struct {
	name  string
	check func(*tree) []finding
}{
	{"import law", importLaw},
	{"purity", purity},
	{"plain tests", plainTests},
	{"map order", mapOrder},
	{"formatted", formatted},
	{"leftovers", leftovers},
	{"sizes", sizes},
	{"package comments", packageComments},
	{"doc comments", docComments},
	{"no exit", noExit},
	{"no sleep", noSleep},
	{"no skip", noSkip},
	{"leak checked", leakChecked},
}

// TestHouse holds the repository to its own rules.
func TestHouse(t *testing.T) {
	const root = "../.."
	repo, err := load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	repo.exports = func(dirs []string) (map[string]string, error) {
		var patterns []string
		for _, d := range dirs {
			patterns = append(patterns, "./"+d)
		}
		return compiled(root, patterns...)
	}
	for _, rule := range rules {
		t.Run(strings.ReplaceAll(rule.name, " ", "-"), func(t *testing.T) {
			left, idle := excuse(rule.name, rule.check(repo), exceptions)
			for _, f := range left {
				t.Error(f)
			}
			for _, e := range idle {
				t.Errorf("%s %s: exception excuses nothing any more (%s): remove it", e.path, e.fn, e.reason)
			}
		})
	}
}

// TestRoomsExist keeps the table of rooms as true as the tree.
func TestRoomsExist(t *testing.T) {
	for i, r := range house {
		if slices.ContainsFunc(house[:i], func(o room) bool { return o.dir == r.dir }) {
			t.Errorf("room %s has two lines", r.dir)
		}
		for _, o := range r.ours {
			to, ok := roomOf(o)
			if !ok || to.dir != o {
				t.Errorf("room %s imports %s, which is no room", r.dir, o)
			}
			if slices.Contains(to.ours, r.dir) {
				t.Errorf("rooms %s and %s import each other", r.dir, o)
			}
			if r.pure && !to.pure && o != "applier" {
				t.Errorf("deterministic room %s imports %s, which is none", r.dir, o)
			}
		}
	}
}

// compiled asks the go command for the export data of packages and of all that
// they import, compiling what is not in the build cache.
func compiled(dir string, patterns ...string) (map[string]string, error) {
	args := []string{"list", "-e", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}
	cmd := exec.Command("go", append(args, patterns...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(out)) {
		p, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		exports[p] = file
	}
	return exports, nil
}
