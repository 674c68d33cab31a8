package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// teller tells a story on a terminal, with the time in front of each line.
type teller struct {
	out    io.Writer
	began  time.Time
	colour bool
}

func newTeller(out io.Writer) *teller {
	return &teller{out: out, began: time.Now(), colour: terminal(out)}
}

// terminal reports whether w is a terminal whose user has nothing against
// colour.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

const (
	bold  = "1"
	green = "32"
)

func (t *teller) paint(style, text string) string {
	if !t.colour {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (t *teller) strong(text string) string { return t.paint(bold, text) }

func (t *teller) heading(text string) { say(t.out, "\n%s\n", t.strong(text)) }

func (t *teller) line(format string, args ...any) {
	say(t.out, "%6.1f s  %s\n", time.Since(t.began).Seconds(), fmt.Sprintf(format, args...))
}

func (t *teller) check(format string, args ...any) {
	say(t.out, "      %s  %s\n", t.paint(green, "ok"), fmt.Sprintf(format, args...))
}

// facts shows names and what they stand for, below each other.
func (t *teller) facts(facts [][2]string) {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	for _, f := range facts {
		say(w, "            %s\t%s\n", f[0], f[1])
	}
	_ = w.Flush() // as say
}

// table shows the members side by side.
func (t *teller) table(members []*adminpb.StatusResponse) {
	say(t.out, "\n")
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	say(w, "          MEMBER\tSTATE\tPOSITION\tGTID SET\tDIGEST\n")
	for i, m := range members {
		say(w, "          m%d\t%s\t%d\t%s\t%s\n", i+1, stateName(m.GetState()), m.GetDigestPosition(), m.GetExecuted(), hex.EncodeToString(m.GetDigest()))
	}
	_ = w.Flush() // as say
	say(t.out, "\n")
}

// count prints a number with commas between thousands.
func count(n int) string {
	digits := strconv.Itoa(n)
	var b strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}
