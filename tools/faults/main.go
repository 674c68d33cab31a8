// Command faults checks that the simulator notices what it is there to notice.
//
// Each file of sim/testdata/faults is a patch that makes Concordat break a promise
// of docs/DESIGN.md §6, and says in its head which one and within how many worlds
// that must be found. The command applies one after the other to a copy of the
// sources and runs worlds there until the promise is broken; first the one that
// broke it when the patch was written. Run it in this module's directory:
//
//	go -C tools run ./faults            # all of them
//	go -C tools run ./faults epoch-ignored
//
// It takes minutes, and fails when a fault is not found or breaks another promise
// than it should.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

func main() {
	root := flag.String("root", "..", "directory of the sources")
	flag.Parse()
	if err := run(context.Background(), *root, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// fault is a patch, with what its head says.
type fault struct {
	name     string
	patch    string   // path
	promises []string // of which one must be found broken
	seeds    int      // within how many worlds
	caught   uint64   // the world that broke it before, 0 for none
}

func run(ctx context.Context, root string, names []string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(root, "sim", "testdata", "faults", "*.patch"))
	if err != nil {
		return err
	}
	var missed []error
	for _, path := range paths {
		f, err := read(path)
		if err != nil {
			return err
		}
		if len(names) > 0 && !slices.Contains(names, f.name) {
			continue
		}
		seed, err := f.find(ctx, root)
		if err != nil {
			missed = append(missed, fmt.Errorf("%s: %w", f.name, err))
			continue
		}
		fmt.Printf("%-32s %s broken by seed %d\n", f.name, strings.Join(f.promises, " or "), seed)
	}
	return errors.Join(missed...)
}

// read reads the head of a patch: lines with a word, a colon and what it stands for,
// up to the first empty one.
func read(path string) (f fault, err error) {
	f = fault{name: strings.TrimSuffix(filepath.Base(path), ".patch"), patch: path}
	b, err := os.ReadFile(path)
	if err != nil {
		return f, err
	}
	head, _, _ := strings.Cut(string(b), "\n\n")
	for line := range strings.Lines(head) {
		word, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch word {
		case "Promise":
			f.promises = strings.Fields(value)
		case "Seeds":
			f.seeds, err = strconv.Atoi(value)
		case "Caught":
			f.caught, err = strconv.ParseUint(value, 10, 64)
		default:
			err = fmt.Errorf("%s: %q means nothing", path, word)
		}
		if err != nil {
			return f, err
		}
	}
	if len(f.promises) == 0 || f.seeds == 0 {
		return f, fmt.Errorf("%s does not say which promise is broken within how many worlds", path)
	}
	return f, nil
}

// sweeper is the program that runs worlds on the copy, the one named first and then
// the others, until one breaks a promise.
const sweeper = `package main

import (
	"context"
	"encoding/json"
	"os"
	"strconv"

	"github.com/concordatdb/concordat/sim"
)

func main() {
	first, _ := strconv.ParseUint(os.Args[1], 10, 64)
	seeds, _ := strconv.ParseUint(os.Args[2], 10, 64)
	for n := uint64(0); n <= seeds; n++ {
		seed := n
		if n == 0 {
			seed = first
		}
		if seed == 0 {
			continue
		}
		report, err := sim.Run(context.Background(), sim.Options{First: seed, Seeds: 1})
		if err != nil {
			panic(err)
		}
		for _, v := range report.Violations {
			_ = json.NewEncoder(os.Stdout).Encode(v)
			return
		}
	}
}
`

// find applies the patch to a copy of the sources, and returns the seed that breaks
// the promise there.
func (f *fault) find(ctx context.Context, root string) (seed uint64, err error) {
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := copySources(root, dir); err != nil {
		return 0, err
	}
	if _, err := command(ctx, dir, "git", "apply", "--whitespace=nowarn", f.patch); err != nil {
		return 0, fmt.Errorf("it does not apply any more: %w", err)
	}
	program := filepath.Join(dir, "sweeper")
	if err := os.Mkdir(program, 0o755); err != nil {
		return 0, err
	}
	if err := os.WriteFile(filepath.Join(program, "main.go"), []byte(sweeper), 0o644); err != nil {
		return 0, err
	}
	// Without their paths, what did not change is taken from the last build.
	if _, err := command(ctx, dir, "go", "build", "-trimpath", "-o", "swept", "./sweeper"); err != nil {
		return 0, err
	}
	out, err := command(ctx, dir, filepath.Join(dir, "swept"), strconv.FormatUint(f.caught, 10), strconv.Itoa(f.seeds))
	if err != nil {
		return 0, err
	}
	var v struct {
		Seed    uint64
		Promise string
		Text    string
	}
	switch {
	case len(out) == 0:
		return 0, fmt.Errorf("not noticed in %d worlds", f.seeds)
	case json.Unmarshal(out, &v) != nil:
		return 0, fmt.Errorf("the sweeper says %q", out)
	case !slices.Contains(f.promises, v.Promise):
		return 0, fmt.Errorf("seed %d breaks %s, and %s should be broken: %s", v.Seed, v.Promise, strings.Join(f.promises, " or "), v.Text)
	}
	return v.Seed, nil
}

// copySources copies what is needed to build the command.
func copySources(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && slices.Contains([]string{".git", "bin", "tools"}, name):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), b, 0o644)
	})
}

// command runs a program and returns what it prints.
func command(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, stderr.Bytes())
	}
	return stdout.Bytes(), nil
}
