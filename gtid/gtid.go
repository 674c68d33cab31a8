package gtid

import (
	"cmp"
	"fmt"
	"strconv"
)

// MaxNumber is the highest number a GTID can have. MySQL keeps the one above
// it for the end of half-open intervals.
const MaxNumber uint64 = 1<<63 - 2

// maxTagLen is the most characters a tag can have.
const maxTagLen = 32

// Tag sets apart a series of transactions numbered under one UUID. The empty
// tag means none; any other matches [a-z_][a-z0-9_]{0,31}. Make a Tag from
// outside text with [ParseTag], which folds its case.
type Tag string

// ParseTag returns text in lower case as a Tag. The empty text is the empty tag;
// text outside the grammar is a [SyntaxError].
func ParseTag(text string) (Tag, error) {
	if text == "" {
		return "", nil
	}
	sc := scanner{kind: "tag", text: text}
	tag, err := sc.tag()
	if err != nil {
		return "", err
	}
	if !sc.done() {
		return "", sc.expected("a letter, a digit or _")
	}
	return tag, nil
}

// Valid reports whether t is empty or a tag in lower case.
func (t Tag) Valid() bool {
	if len(t) > maxTagLen {
		return false
	}
	for i := range len(t) {
		c := t[i]
		if !isTagByte(c, i == 0) || c != lower(c) {
			return false
		}
	}
	return true
}

// isTagByte reports whether c, in either case, may stand in a tag, as its first
// character or later.
func isTagByte(c byte, first bool) bool {
	letter := 'a' <= lower(c) && lower(c) <= 'z'
	return letter || c == '_' || !first && isDigit(c)
}

// GTID identifies one transaction. It is comparable, so it can be a map key. The
// zero GTID means no transaction.
type GTID struct {
	UUID UUID
	Tag  Tag
	// Number counts from 1 to [MaxNumber] within one UUID and tag.
	Number uint64
}

// Parse reads one GTID, such as
//
//	3e11fa47-71ca-11e1-9e33-c80aa9429562:23
//	3e11fa47-71ca-11e1-9e33-c80aa9429562:backup:23
//
// The UUID may have any form that [ParseUUID] takes, and white space may stand
// around every part. Anything else, intervals and lists too, is a [SyntaxError].
func Parse(text string) (GTID, error) {
	sc := scanner{kind: "GTID", text: text}
	return sc.gtid()
}

// Valid reports whether g can be in a set: its tag is valid and its number lies
// in 1..[MaxNumber].
func (g GTID) Valid() bool {
	return g.Number >= 1 && g.Number <= MaxNumber && g.Tag.Valid()
}

// IsZero reports whether g is the zero GTID, which names no transaction.
func (g GTID) IsZero() bool { return g == GTID{} }

// Compare orders GTIDs by UUID, then tag (untagged first), then number: the
// order in which a [Set] lists them. It returns -1, 0 or 1.
func (g GTID) Compare(h GTID) int {
	if c := (tsid{g.UUID, g.Tag}).compare(tsid{h.UUID, h.Tag}); c != 0 {
		return c
	}
	return cmp.Compare(g.Number, h.Number)
}

// String returns the canonical text, which [Parse] reads back if g is valid.
func (g GTID) String() string { return string(g.append(nil)) }

func (g GTID) append(b []byte) []byte {
	b = g.UUID.append(b)
	b = appendTag(b, g.Tag)
	b = append(b, ':')
	return strconv.AppendUint(b, g.Number, 10)
}

// appendTag appends the colon and the text of a tag, or nothing for no tag.
func appendTag(b []byte, tag Tag) []byte {
	if tag == "" {
		return b
	}
	b = append(b, ':')
	return append(b, tag...)
}

// AppendText implements [encoding.TextAppender]: the text of [GTID.String], or
// nothing for the zero GTID. An invalid GTID is an error.
func (g GTID) AppendText(b []byte) ([]byte, error) {
	switch {
	case g.IsZero():
		return b, nil
	case !g.Valid():
		return b, fmt.Errorf("GTID %q has no text: its tag or its number is out of range", g)
	}
	return g.append(b), nil
}

// MarshalText implements [encoding.TextMarshaler]; see [GTID.AppendText].
func (g GTID) MarshalText() ([]byte, error) { return g.AppendText(nil) }

// UnmarshalText implements [encoding.TextUnmarshaler]: what [Parse] takes, or
// empty text for the zero GTID. After an error g is what it was.
func (g *GTID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*g = GTID{}
		return nil
	}
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*g = parsed
	return nil
}
