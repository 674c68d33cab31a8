package gtid

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// SyntaxError reports text that is not a GTID, a GTID set, a UUID or a tag.
type SyntaxError struct {
	// Kind is what the text should have been: "GTID", "GTID set", "UUID", "tag".
	Kind string
	// Offset is where in the text the error is, in bytes from 0.
	Offset int
	// Expected is what should have stood there, in words.
	Expected string
	// Found is what stands there instead: a word or the start of a long one, one
	// character that is of no word, or "" at the end of the text.
	Found string
}

func (e *SyntaxError) Error() string {
	found := "the end"
	if e.Found != "" {
		found = strconv.Quote(e.Found)
	}
	return fmt.Sprintf("malformed %s: at byte %d: expected %s, found %s", e.Kind, e.Offset, e.Expected, found)
}

// maxFoundLen is how much of a long word an error repeats.
const maxFoundLen = 40

const (
	expectedNumber = "a decimal number from 1 to 9223372036854775806"
	expectedEnd    = "a decimal number up to 9223372036854775806"
)

// ParseSet reads a GTID set in MySQL's grammar, which the package comment gives.
// Text outside it is a [SyntaxError].
func ParseSet(text string) (Set, error) {
	sc := scanner{kind: "GTID set", text: text}
	var intervals []Interval
	for {
		for sc.accept(',') {
		}
		if sc.done() {
			return gather(intervals), nil
		}
		var err error
		if intervals, err = sc.uuidSet(intervals); err != nil {
			return Set{}, err
		}
		if !sc.done() && !sc.at(',') {
			return Set{}, sc.expected("a colon, a comma or the end of the text")
		}
	}
}

// scanner reads tokens off a text. UUIDs, tags and numbers are read from where
// they must begin to where they end; accept takes the punctuation between them
// together with the white space on both sides.
type scanner struct {
	kind string
	text string
	pos  int
}

func (sc *scanner) done() bool { return sc.pos == len(sc.text) }

// at reports whether c stands next.
func (sc *scanner) at(c byte) bool { return sc.pos < len(sc.text) && sc.text[sc.pos] == c }

// space skips what MySQL takes for white space.
func (sc *scanner) space() {
	for !sc.done() && strings.IndexByte(" \t\r\n\f\v", sc.text[sc.pos]) >= 0 {
		sc.pos++
	}
}

// accept skips white space, and c with the white space behind it if c stands
// next.
func (sc *scanner) accept(c byte) bool {
	sc.space()
	if !sc.at(c) {
		return false
	}
	sc.pos++
	sc.space()
	return true
}

// expected makes the error of what stands next.
func (sc *scanner) expected(what string) error {
	rest := sc.text[sc.pos:]
	word := 0
	for word < len(rest) && isTagByte(rest[word], false) {
		word++
	}
	if word == 0 && rest != "" {
		_, word = utf8.DecodeRuneInString(rest)
	}
	found := strings.Clone(rest[:min(word, maxFoundLen)])
	return &SyntaxError{Kind: sc.kind, Offset: sc.pos, Expected: what, Found: found}
}

// gtid reads one GTID and nothing else.
func (sc *scanner) gtid() (g GTID, err error) {
	sc.space()
	if g.UUID, err = sc.anyUUID(); err != nil {
		return GTID{}, err
	}
	if !sc.accept(':') {
		return GTID{}, sc.expected("a colon")
	}
	if sc.atTag() {
		if g.Tag, err = sc.tag(); err != nil {
			return GTID{}, err
		}
		if !sc.accept(':') {
			return GTID{}, sc.expected("a colon")
		}
	}
	if g.Number, err = sc.number(1, expectedNumber); err != nil {
		return GTID{}, err
	}
	sc.space()
	if !sc.done() {
		return GTID{}, sc.expected("the end of the text")
	}
	return g, nil
}

// uuidSet reads a UUID with its tags and intervals, and appends the intervals.
func (sc *scanner) uuidSet(intervals []Interval) ([]Interval, error) {
	in := Interval{}
	var err error
	if in.UUID, err = sc.dashedUUID(); err != nil {
		return nil, err
	}
	for sc.accept(':') {
		if sc.atTag() {
			if in.Tag, err = sc.tag(); err != nil {
				return nil, err
			}
			continue
		}
		if in.First, in.Last, err = sc.interval(); err != nil {
			return nil, err
		}
		if in.First <= in.Last {
			intervals = append(intervals, in)
		}
	}
	return intervals, nil
}

// interval reads N or N-M. M may be less than N.
func (sc *scanner) interval() (first, last uint64, err error) {
	if sc.done() || !isDigit(sc.text[sc.pos]) {
		return 0, 0, sc.expected("a tag or " + expectedNumber)
	}
	if first, err = sc.number(1, expectedNumber); err != nil {
		return 0, 0, err
	}
	if !sc.accept('-') {
		return first, first, nil
	}
	last, err = sc.number(0, expectedEnd)
	return first, last, err
}

// number reads a decimal number from least to MaxNumber. The error of a number
// out of range is that of its first digit.
func (sc *scanner) number(least uint64, what string) (uint64, error) {
	end, n, tooLarge := sc.pos, uint64(0), false
	for ; end < len(sc.text) && isDigit(sc.text[end]); end++ {
		digit := uint64(sc.text[end] - '0')
		tooLarge = tooLarge || n > (MaxNumber-digit)/10
		n = n*10 + digit
	}
	if end == sc.pos || tooLarge || n < least {
		return 0, sc.expected(what)
	}
	sc.pos = end
	return n, nil
}

// atTag reports whether a tag stands next.
func (sc *scanner) atTag() bool { return !sc.done() && isTagByte(sc.text[sc.pos], true) }

func (sc *scanner) tag() (Tag, error) {
	start, end := sc.pos, sc.pos
	for end < len(sc.text) && isTagByte(sc.text[end], end == start) {
		end++
	}
	if end == start || end-start > maxTagLen {
		return "", sc.expected("a tag of a letter or _ and up to 31 letters, digits and _")
	}
	sc.pos = end
	// A copy: a tag lives in sets and map keys, and must not hold on to the text.
	return Tag(strings.ToLower(strings.Clone(sc.text[start:end]))), nil
}

// anyUUID reads a UUID in any of the forms that ParseUUID takes.
func (sc *scanner) anyUUID() (UUID, error) {
	if sc.at('{') {
		sc.pos++
		u, err := sc.dashedUUID()
		if err != nil {
			return UUID{}, err
		}
		if !sc.at('}') {
			return UUID{}, sc.expected("a closing brace")
		}
		sc.pos++
		return u, nil
	}
	if rest := sc.text[sc.pos:]; len(rest) > 8 && rest[8] == '-' {
		return sc.dashedUUID()
	}
	var u UUID
	err := sc.hex(u[:])
	return u, err
}

// dashedUUID reads a UUID of 36 characters.
func (sc *scanner) dashedUUID() (UUID, error) {
	var u UUID
	for _, part := range [][]byte{u[:4], u[4:6], u[6:8], u[8:10]} {
		if err := sc.hex(part); err != nil {
			return UUID{}, err
		}
		if !sc.at('-') {
			return UUID{}, sc.expected("a dash, as in a UUID of 36 characters")
		}
		sc.pos++
	}
	err := sc.hex(u[10:])
	return u, err
}

// hex fills part from two digits a byte.
func (sc *scanner) hex(part []byte) error {
	for i := range 2 * len(part) {
		value := byte(0xff)
		if !sc.done() {
			value = hexValue(sc.text[sc.pos])
		}
		if value > 0xf {
			return sc.expected("a hexadecimal digit of a UUID")
		}
		part[i/2] = part[i/2]<<4 | value
		sc.pos++
	}
	return nil
}

// hexValue returns the value of a hexadecimal digit, 0xff for anything else.
func hexValue(c byte) byte {
	switch c = lower(c); {
	case isDigit(c):
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// lower folds the case of an ASCII letter.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// String returns the canonical text of the set; that of the empty set is empty.
func (s Set) String() string { return string(s.append(nil)) }

func (s Set) append(b []byte) []byte {
	var last Interval
	start := true
	for in := range s.Intervals() {
		if start || in.UUID != last.UUID {
			if !start {
				b = append(b, ",\n"...)
			}
			b = in.UUID.append(b)
			last.Tag, start = "", false
		}
		if in.Tag != last.Tag {
			b = appendTag(b, in.Tag)
		}
		b = appendNumbers(b, in)
		last = in
	}
	return b
}

// appendNumbers appends a colon and the numbers of an interval.
func appendNumbers(b []byte, in Interval) []byte {
	b = append(b, ':')
	b = strconv.AppendUint(b, in.First, 10)
	if in.Last != in.First {
		b = append(b, '-')
		b = strconv.AppendUint(b, in.Last, 10)
	}
	return b
}

// String returns the text of a set that has this interval only.
func (in Interval) String() string {
	return string(appendNumbers(appendTag(in.UUID.append(nil), in.Tag), in))
}

// AppendText implements [encoding.TextAppender]: the text of [Set.String].
func (s Set) AppendText(b []byte) ([]byte, error) { return s.append(b), nil }

// MarshalText implements [encoding.TextMarshaler]: the text of [Set.String].
func (s Set) MarshalText() ([]byte, error) { return s.append(nil), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; see [ParseSet]. After an
// error s is what it was.
func (s *Set) UnmarshalText(text []byte) error {
	parsed, err := ParseSet(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}
