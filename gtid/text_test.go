package gtid

import (
	"errors"
	"strings"
	"testing"
)

// Three UUIDs in ascending order.
const (
	uuidA = "00000000-71ca-11e1-9e33-c80aa9429562"
	uuidB = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	uuidC = "3e11fa47-71ca-11e1-9e33-c80aa9429563"
)

func TestParseSet(t *testing.T) {
	longest := strings.Repeat("x", 32)
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"only white space", " \t\r\n\f\v", ""},
		{"only commas", ",, , ,", ""},
		{"one number", uuidA + ":7", uuidA + ":7"},
		{"one interval", uuidA + ":1-5", uuidA + ":1-5"},
		{"interval of one", uuidA + ":5-5", uuidA + ":5"},
		{"upper case", strings.ToUpper(uuidB) + ":1", uuidB + ":1"},
		{"no interval", uuidA, ""},
		{"no interval beside another", uuidA + "," + uuidB + ":1", uuidB + ":1"},
		{"adjacent", uuidA + ":1-2:3", uuidA + ":1-3"},
		{"adjacent, reversed", uuidA + ":3:1-2", uuidA + ":1-3"},
		{"overlapping", uuidA + ":1-5:3-9", uuidA + ":1-9"},
		{"nested", uuidA + ":1-9:3-5:2", uuidA + ":1-9"},
		{"gap", uuidA + ":5-6:1-3", uuidA + ":1-3:5-6"},
		{"bridge", uuidA + ":1:3:2", uuidA + ":1-3"},
		{"end before start", uuidA + ":5-4", ""},
		{"end zero", uuidA + ":5-0", ""},
		{"end before start beside another", uuidA + ":5-4:7", uuidA + ":7"},
		{"leading zeros", uuidA + ":" + strings.Repeat("0", 50) + "10-0011", uuidA + ":10-11"},
		{"decimal only", uuidA + ":010", uuidA + ":10"},
		{"highest", uuidA + ":9223372036854775806", uuidA + ":9223372036854775806"},
		{"everything", uuidA + ":1-9223372036854775806", uuidA + ":1-9223372036854775806"},
		{
			"white space",
			" \t" + uuidA + "\r\n:\f1\v-  3 : 5 ,\n" + uuidB + " : a : 2 ",
			uuidA + ":1-3:5,\n" + uuidB + ":a:2",
		},
		{"repeated commas", ",, " + uuidA + ":1,, ,\n" + uuidB + ":2 , ,", uuidA + ":1,\n" + uuidB + ":2"},
		{"UUIDs out of order", uuidC + ":1," + uuidA + ":2," + uuidB + ":3", uuidA + ":2,\n" + uuidB + ":3,\n" + uuidC + ":1"},
		{"a UUID twice", uuidA + ":1," + uuidB + ":1," + uuidA + ":2", uuidA + ":1-2,\n" + uuidB + ":1"},
		{"tag", uuidA + ":tag:1-2:3", uuidA + ":tag:1-3"},
		{"tag in upper case", uuidA + ":TAG:1:tag:2", uuidA + ":tag:1-2"},
		{"tag that looks like hex", uuidA + ":e1:1", uuidA + ":e1:1"},
		{"tag of one underscore", uuidA + ":_:1", uuidA + ":_:1"},
		{"tag of 32", uuidA + ":" + longest + ":1", uuidA + ":" + longest + ":1"},
		{"tag without intervals", uuidA + ":tag", ""},
		{"tag after tag", uuidA + ":a:b:1", uuidA + ":b:1"},
		{"tag repeated", uuidA + ":a:1:b:1:a:2", uuidA + ":a:1-2:b:1"},
		{"tags sorted behind untagged", uuidA + ":b:1:a:1," + uuidA + ":9", uuidA + ":9:a:1:b:1"},
		{"tag ends with its UUID", uuidA + ":a:1," + uuidB + ":1," + uuidA + ":5", uuidA + ":5:a:1,\n" + uuidB + ":1"},
		{"digit before underscore in order of bytes", uuidA + ":a_:1:a1:1:a:1", uuidA + ":a:1:a1:1:a_:1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := ParseSet(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := set.String(); got != test.want {
				t.Errorf("ParseSet(%q) is %q, want %q", test.text, got, test.want)
			}
			if err := set.valid(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParseSetErrors(t *testing.T) {
	const number = "a decimal number from 1 to 9223372036854775806"
	const end = "a decimal number up to 9223372036854775806"
	const tag = "a tag of a letter or _ and up to 31 letters, digits and _"
	const digit = "a hexadecimal digit of a UUID"
	const dash = "a dash, as in a UUID of 36 characters"
	const after = "a colon, a comma or the end of the text"
	tooLong := strings.Repeat("x", 33)
	for _, test := range []struct {
		name, text string
		want       SyntaxError
	}{
		{"no UUID", "x", SyntaxError{Offset: 0, Expected: digit, Found: "x"}},
		{"only a colon", ":1", SyntaxError{Offset: 0, Expected: digit, Found: ":"}},
		{"UUID cut short", uuidA[:35], SyntaxError{Offset: 35, Expected: digit}},
		{"UUID too long", uuidA + "0", SyntaxError{Offset: 36, Expected: after, Found: "0"}},
		{"UUID without dashes", strings.ReplaceAll(uuidA, "-", ""), SyntaxError{Offset: 8, Expected: dash, Found: "71ca11e19e33c80aa9429562"}},
		{"UUID in braces", "{" + uuidA + "}:1", SyntaxError{Offset: 0, Expected: digit, Found: "{"}},
		{"white space in a UUID", uuidA[:9] + " " + uuidA[9:], SyntaxError{Offset: 9, Expected: digit, Found: " "}},
		{"colon and nothing", uuidA + ":", SyntaxError{Offset: 37, Expected: "a tag or " + number}},
		{"two colons", uuidA + "::1", SyntaxError{Offset: 37, Expected: "a tag or " + number, Found: ":"}},
		{"colon at the end", uuidA + ":1-2:", SyntaxError{Offset: 41, Expected: "a tag or " + number}},
		{"colon before a comma", uuidA + ":1:," + uuidB, SyntaxError{Offset: 39, Expected: "a tag or " + number, Found: ","}},
		{"zero", uuidA + ":0", SyntaxError{Offset: 37, Expected: number, Found: "0"}},
		{"from zero", uuidA + ":0-5", SyntaxError{Offset: 37, Expected: number, Found: "0"}},
		{"negative", uuidA + ":-1", SyntaxError{Offset: 37, Expected: "a tag or " + number, Found: "-"}},
		{"plus", "+" + uuidA + ":1", SyntaxError{Offset: 0, Expected: digit, Found: "+"}},
		{"hexadecimal", uuidA + ":0x10", SyntaxError{Offset: 37, Expected: number, Found: "0x10"}},
		{"letters behind a number", uuidA + ":1a", SyntaxError{Offset: 38, Expected: after, Found: "a"}},
		{"above the highest", uuidA + ":9223372036854775807", SyntaxError{Offset: 37, Expected: number, Found: "9223372036854775807"}},
		{"end above the highest", uuidA + ":1-9223372036854775807", SyntaxError{Offset: 39, Expected: end, Found: "9223372036854775807"}},
		{"beyond 64 bits", uuidA + ":18446744073709551617", SyntaxError{Offset: 37, Expected: number, Found: "18446744073709551617"}},
		{"1 but for 64 bits that are lost", uuidA + ":184467440737095516161", SyntaxError{Offset: 37, Expected: number, Found: "184467440737095516161"}},
		{"far beyond 64 bits", uuidA + ":" + strings.Repeat("9", 60), SyntaxError{Offset: 37, Expected: number, Found: strings.Repeat("9", 40)}},
		{"end missing", uuidA + ":5-", SyntaxError{Offset: 39, Expected: end}},
		{"end missing before a colon", uuidA + ":5-:7", SyntaxError{Offset: 39, Expected: end, Found: ":"}},
		{"two dashes", uuidA + ":5--7", SyntaxError{Offset: 39, Expected: end, Found: "-"}},
		{"three numbers", uuidA + ":1-2-3", SyntaxError{Offset: 40, Expected: after, Found: "-"}},
		{"numbers without a colon", uuidA + ":1 2", SyntaxError{Offset: 39, Expected: after, Found: "2"}},
		{"UUIDs without a comma", uuidA + ":1 " + uuidB + ":1", SyntaxError{Offset: 39, Expected: after, Found: "3e11fa47"}},
		{"tag of 33", uuidA + ":" + tooLong + ":1", SyntaxError{Offset: 37, Expected: tag, Found: tooLong}},
		{"tag with a dash", uuidA + ":a-b:1", SyntaxError{Offset: 38, Expected: after, Found: "-"}},
		{"tag and number without a colon", uuidA + ":a 1", SyntaxError{Offset: 39, Expected: after, Found: "1"}},
		{"tag outside ASCII", uuidA + ":é:1", SyntaxError{Offset: 37, Expected: "a tag or " + number, Found: "é"}},
		{"semicolon", uuidA + ":1;" + uuidB + ":1", SyntaxError{Offset: 38, Expected: after, Found: ";"}},
		{"NUL", uuidA + ":1\x00", SyntaxError{Offset: 38, Expected: after, Found: "\x00"}},
		{"not UTF-8", uuidA + ":1\xff", SyntaxError{Offset: 38, Expected: after, Found: "\xff"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := ParseSet(test.text)
			checkSyntaxError(t, err, "GTID set", test.want)
			if !set.IsEmpty() {
				t.Errorf("the error comes with the set %v", set)
			}
		})
	}
}

func checkSyntaxError(t *testing.T, err error, kind string, want SyntaxError) {
	t.Helper()
	want.Kind = kind
	got, ok := errors.AsType[*SyntaxError](err)
	if !ok || *got != want {
		t.Errorf("error is %v, want %v", err, &want)
	}
}

func TestSyntaxErrorText(t *testing.T) {
	_, err := ParseSet(uuidA + ":1-5:0")
	want := `malformed GTID set: at byte 41: expected a decimal number from 1 to 9223372036854775806, found "0"`
	if err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	_, err = Parse(uuidA)
	want = `malformed GTID: at byte 36: expected a colon, found the end`
	if err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

func TestParseUUID(t *testing.T) {
	want := UUID{0x3e, 0x11, 0xfa, 0x47, 0x71, 0xca, 0x11, 0xe1, 0x9e, 0x33, 0xc8, 0x0a, 0xa9, 0x42, 0x95, 0x62}
	for _, text := range []string{uuidB, strings.ToUpper(uuidB), "{" + uuidB + "}", strings.ReplaceAll(uuidB, "-", "")} {
		got, err := ParseUUID(text)
		if err != nil || got != want {
			t.Errorf("ParseUUID(%q) is %v, %v", text, got, err)
		}
	}
	for _, test := range []struct {
		text string
		want SyntaxError
	}{
		{"", SyntaxError{Expected: "a hexadecimal digit of a UUID"}},
		{" " + uuidB, SyntaxError{Expected: "a hexadecimal digit of a UUID", Found: " "}},
		{uuidB + " ", SyntaxError{Offset: 36, Expected: "the end of the text", Found: " "}},
		{"{" + uuidB, SyntaxError{Offset: 37, Expected: "a closing brace"}},
		{uuidB + "}", SyntaxError{Offset: 36, Expected: "the end of the text", Found: "}"}},
		{"{" + strings.ReplaceAll(uuidB, "-", "") + "}", SyntaxError{Offset: 9, Expected: "a dash, as in a UUID of 36 characters", Found: "71ca11e19e33c80aa9429562"}},
		{"3e11fa4g", SyntaxError{Offset: 7, Expected: "a hexadecimal digit of a UUID", Found: "g"}},
		{uuidB[:18] + uuidB[19:], SyntaxError{Offset: 18, Expected: "a dash, as in a UUID of 36 characters", Found: "9e33"}},
	} {
		got, err := ParseUUID(test.text)
		checkSyntaxError(t, err, "UUID", test.want)
		if !got.IsZero() {
			t.Errorf("the error of %q comes with %v", test.text, got)
		}
	}
}
