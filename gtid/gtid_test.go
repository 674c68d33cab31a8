package gtid

import (
	"encoding"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var (
	_ encoding.TextAppender      = UUID{}
	_ encoding.TextMarshaler     = UUID{}
	_ encoding.TextUnmarshaler   = &UUID{}
	_ encoding.TextAppender      = GTID{}
	_ encoding.TextMarshaler     = GTID{}
	_ encoding.TextUnmarshaler   = &GTID{}
	_ encoding.BinaryAppender    = GTID{}
	_ encoding.TextAppender      = Set{}
	_ encoding.TextMarshaler     = Set{}
	_ encoding.TextUnmarshaler   = &Set{}
	_ encoding.BinaryAppender    = Set{}
	_ encoding.BinaryMarshaler   = Set{}
	_ encoding.BinaryUnmarshaler = &Set{}
)

func mustUUID(t testing.TB, text string) UUID {
	t.Helper()
	u, err := ParseUUID(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func mustSet(t testing.TB, text string) Set {
	t.Helper()
	s, err := ParseSet(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParse(t *testing.T) {
	uuid := mustUUID(t, uuidB)
	plain := strings.ReplaceAll(uuidB, "-", "")
	for text, want := range map[string]GTID{
		uuidB + ":23":                                     {uuid, "", 23},
		strings.ToUpper(uuidB) + ":tAg_1:23":              {uuid, "tag_1", 23},
		"{" + uuidB + "}:1":                               {uuid, "", 1},
		plain + ":1":                                      {uuid, "", 1},
		plain + ":a:1":                                    {uuid, "a", 1},
		"\n" + uuidB + " :\ta : 0007 ":                    {uuid, "a", 7},
		uuidB + ":9223372036854775806":                    {uuid, "", MaxNumber},
		uuidB + ":" + strings.Repeat("_", 32) + ":1":      {uuid, Tag(strings.Repeat("_", 32)), 1},
		"\v{" + uuidB + "} : 12":                          {uuid, "", 12},
		uuidB + ":00000000000000000000000000000000000001": {uuid, "", 1},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("Parse(%q) is %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	const number = "a decimal number from 1 to 9223372036854775806"
	for _, test := range []struct {
		text string
		want SyntaxError
	}{
		{"", SyntaxError{Expected: "a hexadecimal digit of a UUID"}},
		{uuidB, SyntaxError{Offset: 36, Expected: "a colon"}},
		{uuidB + ":", SyntaxError{Offset: 37, Expected: number}},
		{uuidB + ":0", SyntaxError{Offset: 37, Expected: number, Found: "0"}},
		{uuidB + ":-1", SyntaxError{Offset: 37, Expected: number, Found: "-"}},
		{uuidB + ":9223372036854775807", SyntaxError{Offset: 37, Expected: number, Found: "9223372036854775807"}},
		{uuidB + ":1-2", SyntaxError{Offset: 38, Expected: "the end of the text", Found: "-"}},
		{uuidB + ":1:2", SyntaxError{Offset: 38, Expected: "the end of the text", Found: ":"}},
		{uuidB + ":1,", SyntaxError{Offset: 38, Expected: "the end of the text", Found: ","}},
		{uuidB + ":a", SyntaxError{Offset: 38, Expected: "a colon"}},
		{uuidB + ":a:", SyntaxError{Offset: 39, Expected: number}},
		{uuidB + ":a:b:1", SyntaxError{Offset: 39, Expected: number, Found: "b"}},
		{uuidB + ":" + strings.Repeat("a", 33) + ":1", SyntaxError{
			Offset: 37, Expected: "a tag of a letter or _ and up to 31 letters, digits and _", Found: strings.Repeat("a", 33),
		}},
		{"," + uuidB + ":1", SyntaxError{Expected: "a hexadecimal digit of a UUID", Found: ","}},
	} {
		got, err := Parse(test.text)
		checkSyntaxError(t, err, "GTID", test.want)
		if !got.IsZero() {
			t.Errorf("the error of %q comes with %v", test.text, got)
		}
	}
}

func TestTag(t *testing.T) {
	for text, want := range map[string]Tag{
		"": "", "a": "a", "_": "_", "Backup_2": "backup_2", strings.Repeat("Z", 32): Tag(strings.Repeat("z", 32)),
	} {
		got, err := ParseTag(text)
		if err != nil || got != want || !got.Valid() {
			t.Errorf("ParseTag(%q) is %q, %v", text, got, err)
		}
	}
	const tag = "a tag of a letter or _ and up to 31 letters, digits and _"
	for text, want := range map[string]SyntaxError{
		"1a":                    {Expected: tag, Found: "1a"},
		" a":                    {Expected: tag, Found: " "},
		"a ":                    {Offset: 1, Expected: "a letter, a digit or _", Found: " "},
		"a-b":                   {Offset: 1, Expected: "a letter, a digit or _", Found: "-"},
		strings.Repeat("a", 33): {Expected: tag, Found: strings.Repeat("a", 33)},
	} {
		_, err := ParseTag(text)
		checkSyntaxError(t, err, "tag", want)
	}
	for _, tag := range []Tag{"A", "1a", "a b", "é", Tag(strings.Repeat("a", 33))} {
		if tag.Valid() {
			t.Errorf("%q is valid", tag)
		}
	}
}

func TestGTIDOrder(t *testing.T) {
	a, b := mustUUID(t, uuidA), mustUUID(t, uuidB)
	ordered := []GTID{{a, "", 1}, {a, "", 2}, {a, "a", 1}, {a, "a1", 1}, {a, "a_", 1}, {a, "b", 1}, {b, "", 1}, {b, "a", MaxNumber}}
	shuffled := slices.Clone(ordered)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) {
		shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
	})
	slices.SortFunc(shuffled, GTID.Compare)
	if !slices.Equal(shuffled, ordered) {
		t.Errorf("sorted to %v", shuffled)
	}
}

func TestNewUUID(t *testing.T) {
	u, err := NewUUID(strings.NewReader(strings.Repeat("\xff", 16) + "more"))
	if err != nil || u.String() != "ffffffff-ffff-4fff-bfff-ffffffffffff" {
		t.Errorf("all ones make %v, %v", u, err)
	}
	u, err = NewUUID(strings.NewReader(strings.Repeat("\x00", 16)))
	if err != nil || u.String() != "00000000-0000-4000-8000-000000000000" {
		t.Errorf("all zeros make %v, %v", u, err)
	}
	if u, err = NewUUID(strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) || !u.IsZero() {
		t.Errorf("five bytes make %v, %v", u, err)
	}
}

// A document with every type of the package, as JSON.
type document struct {
	UUID     UUID
	GTID     GTID
	None     GTID
	Executed Set
	ByGTID   map[GTID]int
}

func TestTextMarshalling(t *testing.T) {
	g := GTID{mustUUID(t, uuidB), "tag", 5}
	before := document{
		UUID: g.UUID, GTID: g, Executed: mustSet(t, uuidA+":1-5:9,"+uuidB+":tag:3"), ByGTID: map[GTID]int{g: 1},
	}
	text, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"UUID":"` + uuidB + `","GTID":"` + uuidB + `:tag:5","None":"","Executed":"` + uuidA + `:1-5:9,\n` + uuidB +
		`:tag:3","ByGTID":{"` + uuidB + `:tag:5":1}}`
	if string(text) != want {
		t.Errorf("marshalled to %s, want %s", text, want)
	}
	after := document{None: g}
	if err := json.Unmarshal(text, &after); err != nil {
		t.Fatal(err)
	}
	if after.UUID != before.UUID || after.GTID != g || !after.None.IsZero() || !after.Executed.Equal(before.Executed) || after.ByGTID[g] != 1 {
		t.Errorf("unmarshalled to %+v", after)
	}
}

func TestUnmarshalErrorsChangeNothing(t *testing.T) {
	g := GTID{mustUUID(t, uuidB), "tag", 5}
	u, h, s := g.UUID, g, Set{}.Add(g)
	if u.UnmarshalText([]byte(uuidA+"x")) == nil || u != g.UUID {
		t.Errorf("the UUID is %v", u)
	}
	if h.UnmarshalText([]byte(uuidA+":x")) == nil || h != g {
		t.Errorf("the GTID is %v", h)
	}
	if s.UnmarshalText([]byte(uuidA+":1:x:")) == nil || !s.Equal(Set{}.Add(g)) {
		t.Errorf("the set is %v", s)
	}
	if s.UnmarshalBinary([]byte{0, 0}) == nil || !s.Equal(Set{}.Add(g)) {
		t.Errorf("the set is %v", s)
	}
}

func TestInvalidGTIDs(t *testing.T) {
	uuid := mustUUID(t, uuidA)
	for _, g := range []GTID{{uuid, "", 0}, {uuid, "", MaxNumber + 1}, {uuid, "Upper", 1}, {uuid, "1", 1}, {UUID{}, "a", 0}} {
		if g.Valid() {
			t.Errorf("%v is valid", g)
		}
		if _, err := g.MarshalText(); err == nil {
			t.Errorf("%v has a text", g)
		}
		if b, err := g.AppendBinary(nil); err == nil || len(b) > 0 {
			t.Errorf("%v has the encoding %x", g, b)
		}
		if s := (Set{}).Add(g); !s.IsEmpty() || s.Contains(g) {
			t.Errorf("%v was added", g)
		}
	}
}

func TestEdgesOfSets(t *testing.T) {
	a, b := mustUUID(t, uuidA), mustUUID(t, uuidB)
	all := Set{}.AddInterval(a, "", 0, math.MaxUint64)
	if want := uuidA + ":1-9223372036854775806"; all.String() != want {
		t.Errorf("all numbers are %v, want %s", all, want)
	}
	if got := (Set{}).AddInterval(a, "", 5, 4); !got.IsEmpty() {
		t.Errorf("an interval that ends before its start adds %v", got)
	}
	if got := (Set{}).AddInterval(a, "A", 1, 4); !got.IsEmpty() {
		t.Errorf("an invalid tag adds %v", got)
	}
	if all.Contains(GTID{a, "", 0}) || all.Contains(GTID{a, "", MaxNumber + 1}) || !all.Contains(GTID{a, "", MaxNumber}) {
		t.Errorf("%v contains a number that no GTID has, or lacks the highest", all)
	}
	if got := all.FirstMissing(a, "", 5); got != 0 {
		t.Errorf("the first missing of all is %d", got)
	}
	if got := (Set{}).FirstMissing(a, "", math.MaxUint64); got != 0 {
		t.Errorf("the first missing beyond the highest is %d", got)
	}
	two := all.AddInterval(b, "", 1, MaxNumber)
	if got := two.Count(); got != 2*MaxNumber {
		t.Errorf("two UUIDs count %d", got)
	}
	if got := two.AddInterval(a, "a", 1, 3).Count(); got != math.MaxUint64 {
		t.Errorf("2^64-1 count %d", got)
	}
	if got := two.AddInterval(a, "a", 1, MaxNumber).Count(); got != math.MaxUint64 {
		t.Errorf("three UUIDs count %d", got)
	}
}

func TestIntervalsStopEarly(t *testing.T) {
	for _, text := range []string{uuidA + ":1-5", uuidA + ":1-5:7:9"} {
		for in := range mustSet(t, text).Intervals() {
			if want := uuidA + ":1-5"; in.String() != want {
				t.Errorf("the first interval is %v, want %s", in, want)
			}
			break
		}
	}
}
