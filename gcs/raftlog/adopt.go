package raftlog

import (
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/gcs"
)

// Record implements [gcs.Log].
func (l *Log) Record() []byte {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.recorded
}

// SetRecord implements [gcs.Log].
func (l *Log) SetRecord(record []byte) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if err := checkRecord(record); err != nil {
		return err
	}
	putRecord(l.batch, record)
	if err := l.commit(true); err != nil {
		return err
	}
	l.recorded = ownRecord(record)
	return nil
}

func checkRecord(record []byte) error {
	if len(record) > gcs.MaxRecord {
		return fmt.Errorf("%w: a record of %d bytes, the most is %d", ErrOrder, len(record), gcs.MaxRecord)
	}
	return nil
}

// ownRecord is a copy of the record that its giver cannot change, nil for none.
func ownRecord(record []byte) []byte {
	if len(record) == 0 {
		return nil
	}
	return slices.Clone(record)
}

// Adopt implements [gcs.Log]. An error that wraps [ErrOrder] is the caller's
// mistake and changes nothing; any other one is final.
func (l *Log) Adopt(a gcs.Adoption) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if err := l.mayAdopt(a); err != nil {
		return err
	}
	empties := a.Last == 0 && len(a.Entries) == 0
	state := hardStateOf(a.HardState)
	putIdentity(l.batch, a.Identity)
	putRecord(l.batch, a.Record)
	putHardStateInto(l.batch, state)
	if empties {
		l.removeAll()
		putCut(l.batch, 0, 0)
	} else {
		removeEntries(l.batch, a.Last+1, l.memory.last+1)
	}
	for _, e := range a.Entries {
		putEntryInto(l.batch, e)
	}
	l.pages.Lock()
	defer l.pages.Unlock()
	if err := l.commit(true); err != nil {
		return err
	}
	l.identity, l.recorded, l.hardState = a.Identity, ownRecord(a.Record), state
	l.mu.Lock()
	defer l.mu.Unlock()
	if empties {
		l.heads = nil
		l.memory.reset(0, 0)
	} else if a.Last < l.memory.last {
		l.memory.cutBack(a.Last + 1)
	}
	l.memory.append(a.Entries)
	return nil
}

// mayAdopt checks that what stays of the log and what follows on it fit.
func (l *Log) mayAdopt(a gcs.Adoption) error {
	if err := checkRecord(a.Record); err != nil {
		return err
	}
	last := a.Last + uint64(len(a.Entries))
	if commit := a.HardState.GetCommit(); a.HardState == nil || commit > last {
		return fmt.Errorf("%w: an adoption of a log up to %d with the commit index %d", ErrOrder, last, commit)
	}
	if last == 0 {
		return nil
	}
	if floor := l.floor(); a.Last < floor || a.Last > l.memory.last {
		return fmt.Errorf("%w: entry %d cannot be the last to stay of the entries %d to %d", ErrOrder, a.Last, floor+1, l.memory.last)
	}
	if len(a.Entries) == 0 {
		return nil
	}
	if first := a.Entries[0].GetIndex(); first != a.Last+1 {
		return fmt.Errorf("%w: entry %d does not follow on entry %d", ErrOrder, first, a.Last)
	}
	return inOrder(a.Entries, l.termBefore(nil, a.Last+1))
}
