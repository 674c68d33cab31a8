// Package house holds the rules that this repository keeps about itself, as
// ordinary tests over its source text. It exports nothing and nothing imports
// it.
//
// It owns the import law of docs/DESIGN.md: which package may import which,
// and what the deterministic packages must not touch. Beside it stand the
// rules that reviewers would otherwise repeat: formatting, leftover markers,
// doc comments, sizes, no exits and no panics in the library, no sleeping and
// no skipped tests.
//
// It promises that every finding names file, line and the offending thing,
// and that every rule is itself tested against a source that breaks it. It
// must never know what the code it reads is for: a rule that needs to is a
// unit test of that package.
//
// Exceptions live in one table in exceptions_test.go, each with its reason.
// One that no longer excuses anything is reported too.
package house
