package forced

import (
	"fmt"
	"slices"
	"sort"

	"github.com/concordatdb/concordat/gcs"
)

// maxNumber bounds terms and log indexes: far beyond any that can be reached,
// and near enough to zero for sums of them.
const maxNumber = 1 << 62

// readRuns returns the newest MaxRuns runs of the entries from first to last.
// Terms do not fall along a log, so the start of a run is searched for.
func readRuns(log gcs.LogReader, first, last uint64) ([]gcs.TermRun, error) {
	var runs []gcs.TermRun
	for end := last; end >= first && len(runs) < MaxRuns; {
		term, err := log.Term(end)
		if err != nil {
			return nil, fmt.Errorf("forced: term of entry %d: %w", end, err)
		}
		n := sort.Search(int(end-first), func(i int) bool {
			t, e := log.Term(first + uint64(i))
			if e != nil {
				err = fmt.Errorf("forced: term of entry %d: %w", first+uint64(i), e)
			}
			return t >= term
		})
		if err != nil {
			return nil, err
		}
		start := first + uint64(n)
		runs = append(runs, gcs.TermRun{Term: term, First: start})
		end = start - 1
	}
	slices.Reverse(runs)
	return runs, nil
}

// runsFlaw says why runs cannot be those of a log that ends at last and whose
// first known term is that of the entry first, "" when they can.
func runsFlaw(runs []gcs.TermRun, first, last uint64) string {
	if len(runs) == 0 || len(runs) > MaxRuns {
		return fmt.Sprintf("has %d runs of terms", len(runs))
	}
	if len(runs) < MaxRuns && runs[0].First != first {
		return fmt.Sprintf("knows its terms from entry %d on, its log from %d", runs[0].First, first)
	}
	for i, r := range runs {
		if r.Term == 0 || r.First == 0 || i > 0 && (r.Term <= runs[i-1].Term || r.First <= runs[i-1].First) {
			return fmt.Sprintf("has terms out of order at entry %d", r.First)
		}
	}
	if end := runs[len(runs)-1]; runs[0].First < first || end.First > last || end.Term >= maxNumber {
		return fmt.Sprintf("has terms beyond its log, up to term %d at entry %d", end.Term, end.First)
	}
	return ""
}

// termAt returns the run that the entry at index falls into. ok is false when
// the runs begin after it. index must not lie after the end of the log.
func termAt(runs []gcs.TermRun, index uint64) (r gcs.TermRun, ok bool) {
	n := sort.Search(len(runs), func(i int) bool { return runs[i].First > index })
	if n == 0 {
		return gcs.TermRun{}, false
	}
	return runs[n-1], true
}
