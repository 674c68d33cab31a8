package bench

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Site is where a measurement works, and whom it tells. All options have one.
type Site struct {
	// Dir is where the members' directories are made; empty: below the working
	// directory. It should be on a real disk.
	Dir string
	// Start starts a member as a process of its own. What measures members in this
	// process does not need it.
	Start StartMember
	// Progress is told what is being measured. nil is silent.
	Progress io.Writer
}

// prepare makes a directory for members, and enters what machine they run on. It
// warns of one whose figures mean little.
func (s *Site) prepare(m *Machine) (dir string, remove func() error, err error) {
	below := s.Dir
	if below == "" {
		below = "."
	}
	dir, err = os.MkdirTemp(below, "concordat-bench-")
	if err != nil {
		return "", nil, fmt.Errorf("bench: directory for the members: %w", err)
	}
	*m = inspect(dir)
	if m.Volatile {
		s.tell("WARNING: %s is on %s, where fsync costs nothing; choose a directory on a disk", dir, m.Filesystem)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// tell writes a line of progress.
func (s *Site) tell(format string, args ...any) {
	if s.Progress != nil {
		fmt.Fprintf(s.Progress, format+"\n", args...)
	}
}

// Timing is how long a row is measured.
type Timing struct {
	// Duration is how long it is measured, after WarmUp.
	Duration time.Duration
	WarmUp   time.Duration
}

// flaws are what is wrong with options.
type flaws []error

func (f *flaws) check(ok bool, format string, args ...any) {
	if !ok {
		*f = append(*f, fmt.Errorf("bench: "+format, args...))
	}
}

func (f *flaws) checkRepeats(n int) { f.check(n > 0, "%d repeats measure nothing", n) }

func (f *flaws) checkStart(start StartMember) {
	f.check(start != nil, "no way to start member processes")
}

func (f flaws) err() error { return errors.Join(f...) }
