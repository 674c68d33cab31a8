package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/concordatdb/concordat"
)

// duration is a time.Duration of a flag, the environment or a file.
type duration time.Duration

// String implements pflag.Value.
func (d *duration) String() string { return time.Duration(*d).String() }

// Type implements pflag.Value.
func (d *duration) Type() string { return "duration" }

// Set implements pflag.Value.
func (d *duration) Set(text string) error {
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no duration: write a number and a unit, as in 500ms, 10s or 2m", text)
	}
	*d = duration(v)
	return nil
}

// UnmarshalText is Set for a file.
func (d *duration) UnmarshalText(text []byte) error { return d.Set(string(text)) }

// size is a number of bytes of a flag, the environment or a file.
type size int64

var units = []struct {
	name  string
	bytes size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String implements pflag.Value.
func (s *size) String() string {
	for _, u := range units {
		if *s%u.bytes == 0 && *s >= u.bytes {
			return strconv.FormatInt(int64(*s/u.bytes), 10) + u.name
		}
	}
	return "0B"
}

// Type implements pflag.Value.
func (s *size) Type() string { return "size" }

// Set implements pflag.Value.
func (s *size) Set(text string) error {
	const most = 1 << 40 // so that no unit overflows
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > most/int64(u.bytes) {
			break
		}
		*s = size(n) * u.bytes
		return nil
	}
	return fmt.Errorf("%q is no size: write a whole number and B, KiB, MiB or GiB, as in 64MiB", text)
}

// UnmarshalText is Set for a file.
func (s *size) UnmarshalText(text []byte) error { return s.Set(string(text)) }

// level is a consistency level of a flag, the environment or a file. Empty is no
// choice.
type level concordat.Consistency

// String implements pflag.Value.
func (l *level) String() string {
	if *l == 0 {
		return ""
	}
	return concordat.Consistency(*l).String()
}

// Type implements pflag.Value.
func (l *level) Type() string { return "level" }

// Set implements pflag.Value.
func (l *level) Set(text string) error {
	if text == "" {
		*l = 0
		return nil
	}
	v, err := concordat.ParseConsistency(strings.ReplaceAll(text, "-", "_"))
	if err != nil {
		return err
	}
	*l = level(v)
	return nil
}

// UnmarshalText is Set for a file.
func (l *level) UnmarshalText(text []byte) error { return l.Set(string(text)) }
