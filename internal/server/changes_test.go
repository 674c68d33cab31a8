package server

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

// TestChangesMessage checks that nothing is lost where changes are put into messages,
// and that none is much too large.
func TestChangesMessage(t *testing.T) {
	var run []concordat.Change
	want := ""
	for i, rows := range []int{1, 0, 3, 400, 2, 1, 1000, 0} {
		c := concordat.Change{GTID: gtid.GTID{UUID: gtid.UUID{1}, Number: uint64(i + 1)}, Index: uint64(i), Time: time.UnixMicro(int64(i))}
		for j := range rows {
			c.Rows = append(c.Rows, concordat.RowChange{
				Op: concordat.ChangePut, Table: concordat.Table{Schema: "s", Name: "t"}, Key: fmt.Append(nil, i, " ", j), New: make([]byte, 5000),
			})
			want += fmt.Sprintf("%v %d %d;", c.GTID, i, j)
		}
		want += "end;"
		run = append(run, c)
	}
	run[5].Rows[0].New = make([]byte, 3*followBytes)
	got, messages := "", 0
	for len(run) > 0 {
		message, rest := changesMessage(run)
		if messages++; len(message.GetChanges()) == 0 || messages > 100 {
			t.Fatalf("message %d has no changes", messages)
		}
		bytes, rows := 0, 0
		for i, m := range message.GetChanges() {
			if m.GetMore() && i < len(message.GetChanges())-1 {
				t.Error("what is to be continued is not the last of its message")
			}
			for _, r := range m.GetRows() {
				bytes, rows = bytes+len(r.GetNew()), rows+1
				var number, row int
				if _, err := fmt.Sscan(string(r.GetKey()), &number, &row); err != nil {
					t.Fatal(err)
				}
				got += fmt.Sprintf("%s %d %d;", m.GetGtid(), number, row)
			}
			if !m.GetMore() {
				got += "end;"
			}
		}
		if bytes > followBytes && rows > 1 {
			t.Errorf("a message of %d rows with %d bytes", rows, bytes)
		}
		run = rest
	}
	if got != want || messages < 25 {
		t.Errorf("in %d messages came %.200s, want %.200s", messages, got, want)
	}
}

// TestProblems checks that the errors of a stream are the same on the other side.
func TestProblems(t *testing.T) {
	gone := &concordat.ChangesGoneError{Missing: gtid.Set{}.AddInterval(gtid.UUID{1}, "", 3, 9)}
	for _, err := range []error{
		gone, concordat.ErrChangesOff, concordat.ErrChangesBusy, concordat.ErrDumpBusy,
		fmt.Errorf("%w: some", concordat.ErrChangesLost),
	} {
		there := fromStatus(toStatus(err), nil)
		if _, ok := status.FromError(toStatus(err)); !ok || there.Error() != err.Error() {
			t.Errorf("%v arrives as %v", err, there)
		}
		for _, p := range problems {
			if errors.Is(err, p.err) != errors.Is(there, p.err) {
				t.Errorf("%v arrives as %v, which is not %v", err, there, p.err)
			}
		}
	}
	if e, ok := errors.AsType[*concordat.ChangesGoneError](fromStatus(toStatus(gone), nil)); !ok || !e.Missing.Equal(gone.Missing) {
		t.Errorf("what is gone arrives as %v", e)
	}
}
