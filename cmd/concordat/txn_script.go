package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// step is one line of a transaction's script.
type step struct {
	verb  string
	table *kvpb.Table
	key   []byte // or where a scan begins
	value []byte // or where a scan ends
	delta int64
}

// stepArgs are what each verb of a script takes; what is in brackets may be left
// out.
var stepArgs = map[string]string{
	"begin":    "",
	"get":      "TABLE KEY",
	"put":      "TABLE KEY VALUE",
	"delete":   "TABLE KEY",
	"add":      "TABLE KEY N",
	"scan":     "TABLE [FROM [TO]]",
	"commit":   "",
	"rollback": "",
}

// parseStep reads a line. An empty one, or one that begins with #, is no step.
func (f *kvFlags) parseStep(line string) (s step, ok bool, err error) {
	words, err := splitWords(line)
	if err != nil || len(words) == 0 {
		return s, false, err
	}
	s.verb = words[0]
	form, known := stepArgs[s.verb]
	if !known {
		return s, false, usagef("%q is nothing that a transaction can do; write begin, get, put, delete, add, scan, commit or rollback", s.verb)
	}
	args, names := words[1:], strings.Fields(form)
	least := len(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return strings.HasPrefix(n, "[") }))
	if len(args) < least || len(args) > len(names) {
		return s, false, usagef("write %s", strings.TrimSpace(s.verb+" "+form))
	}
	for i, set := range []func(string) error{
		func(text string) (err error) { s.table, err = parseTable(text); return err },
		func(text string) (err error) { s.key, err = f.parse(text); return err },
		func(text string) (err error) {
			if s.verb == "add" {
				s.delta, err = parseDelta(text)
			} else {
				s.value, err = f.parse(text)
			}
			return err
		},
	} {
		if i < len(args) {
			if err := set(args[i]); err != nil {
				return s, false, err
			}
		}
	}
	return s, true, nil
}

func parseDelta(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, usagef("%q is no number to add: write a whole one of 64 bits, as in 1 or -5", text)
	}
	return n, nil
}

// splitWords splits a line at spaces. A word in double quotes is one of Go, and may
// have spaces and be empty. What follows a # at the beginning of a word is a
// comment.
func splitWords(line string) (words []string, err error) {
	for rest := strings.TrimLeft(line, " \t\r"); rest != "" && rest[0] != '#'; rest = strings.TrimLeft(rest, " \t\r") {
		if rest[0] != '"' {
			end := strings.IndexAny(rest, " \t\r")
			if end < 0 {
				end = len(rest)
			}
			words, rest = append(words, rest[:end]), rest[end:]
			continue
		}
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return nil, usagef("%s: a quoted word has to end, and be quoted as in Go", rest)
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, usagef("%s: %w", quoted, err)
		}
		words, rest = append(words, word), rest[len(quoted):]
		if rest != "" && !strings.ContainsRune(" \t\r", rune(rest[0])) {
			return nil, usagef("%s: a space has to follow a quoted word", quoted)
		}
	}
	return words, nil
}

// lineError says on which line of a script something is wrong.
func lineError(line int, err error) error { return fmt.Errorf("line %d: %w", line, err) }
