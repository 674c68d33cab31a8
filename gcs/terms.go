package gcs

import (
	"fmt"
	"slices"
)

// TermRun is a stretch of the log in one term. It ends before the next run, or
// with the log.
type TermRun struct {
	Term  uint64
	First uint64 // log index of its first entry
}

// termRuns bounds how many runs are remembered. A stable group begins one in
// weeks, a shaken one a few in a minute.
const termRuns = 64

// noteTerm notes the term of the entry at an index, the one after the last
// noted.
func noteTerm(runs []TermRun, term, index uint64) []TermRun {
	if n := len(runs); n > 0 && runs[n-1].Term == term {
		return runs
	}
	runs = append(runs, TermRun{Term: term, First: index})
	if len(runs) > termRuns {
		runs = slices.Delete(runs, 0, len(runs)-termRuns)
	}
	return runs
}

// ExtendTerms returns the term runs up to the end of a log whose runs up to an
// index are known, as by [Group.Terms] up to the last delivery. The cost is that
// of the entries after the index. The error is the log's.
func ExtendTerms(runs []TermRun, after uint64, log LogReader) ([]TermRun, error) {
	last, err := log.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("gcs: end of the log: %w", err)
	}
	runs = slices.Clone(runs)
	for index := after + 1; index <= last; index++ {
		term, err := log.Term(index)
		if err != nil {
			return nil, fmt.Errorf("gcs: term of entry %d: %w", index, err)
		}
		runs = noteTerm(runs, term, index)
	}
	return runs, nil
}

// Terms returns the last term runs of the log up to the last delivery, oldest
// first. They are the caller's.
func (g *Group) Terms() []TermRun { return slices.Clone(g.past.terms) }

// CommonPrefix returns the largest index up to which two logs of one group hold
// the same entries, 0 when they have none in common. Each is given by the runs
// that are known of it and the index of its last entry. It rests on raft's log
// matching (Ongaro and Ousterhout, In Search of an Understandable Consensus
// Algorithm, §5.3): where two logs have an entry of the same index and term,
// they agree up to there. known is false when the runs do not reach back far
// enough to tell.
func CommonPrefix(a []TermRun, lastA uint64, b []TermRun, lastB uint64) (index uint64, known bool) {
	index = min(lastA, lastB)
	for index > 0 {
		inA, knownA := runAt(a, index)
		inB, knownB := runAt(b, index)
		if !knownA || !knownB {
			return 0, false
		}
		if inA.Term == inB.Term {
			return index, true
		}
		// Terms only grow: below the index the log of the lesser term has
		// nothing of the greater, so the greater's run is in one of them only.
		first := inA.First
		if inB.Term > inA.Term {
			first = inB.First
		}
		index = first - min(first, 1) // runs from elsewhere may begin at 0
	}
	return 0, true
}

// runAt returns the run that holds an index.
func runAt(runs []TermRun, index uint64) (TermRun, bool) {
	for _, r := range slices.Backward(runs) {
		if r.First <= index {
			return r, true
		}
	}
	return TermRun{}, false
}

// flawOfTerms says why runs cannot be those of a log, "" when they can.
func flawOfTerms(runs []TermRun) string {
	switch {
	case len(runs) == 0 || runs[0].Term == 0 || runs[0].First == 0:
		return "the log has no first term"
	case len(runs) < termRuns && runs[0].First != 1:
		return "the first term of the log is missing"
	}
	for i, r := range runs[1:] {
		if before := runs[i]; r.Term <= before.Term || r.First <= before.First {
			return "the terms of the log do not grow"
		}
	}
	return ""
}

//	terms := uvarint count  (uvarint term, first)*

func appendTerms(b []byte, runs []TermRun) []byte {
	b = appendUvarints(b, uint64(len(runs)))
	for _, r := range runs {
		b = appendUvarints(b, r.Term, r.First)
	}
	return b
}

func (d *decoder) terms() []TermRun {
	var runs []TermRun
	for range d.uvarintMax(termRuns) {
		runs = append(runs, TermRun{Term: d.uvarint(), First: d.uvarint()})
	}
	return runs
}
