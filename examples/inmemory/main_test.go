package main

import (
	"bytes"
	"testing"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	const want = "be 2  not 1  or 1  to 2  \nask 1  be 2  is 1  not 1  or 1  question 1  that 1  the 1  to 3  \n"
	if out.String() != want {
		t.Errorf("it says %q, want %q", out.String(), want)
	}
}
