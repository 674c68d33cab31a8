package bench

import (
	"fmt"
	"io"
	"strings"
)

// page is what a report is written on. It keeps the first error, and takes nothing
// after that.
type page struct {
	w   io.Writer
	err error
}

// Write implements [io.Writer].
func (p *page) Write(b []byte) (n int, err error) {
	if p.err == nil {
		n, p.err = p.w.Write(b)
	}
	return n, p.err
}

func (p *page) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// head begins a report that has no more to say of the machine.
func (p *page) head(m Machine) {
	p.printf("%s. %d members; they and the clients share the machine.\n\n", m, Members)
	if m.Volatile {
		p.printf("NOT DURABLE: the members' directories are in memory.\n\n")
	}
}

// remarks are what there is to say of a row, in its last column.
type remarks []string

func (r *remarks) add(format string, args ...any) { *r = append(*r, fmt.Sprintf(format, args...)) }

func (r *remarks) noise(background float64) {
	if text := noise(background); text != "" {
		*r = append(*r, text)
	}
}

// String separates them.
func (r remarks) String() string { return strings.Join(r, "; ") }
