package concordat

import (
	"testing"

	"github.com/concordatdb/concordat/gcs"
)

// emptyState is a checkpoint's that knows of no fragments, and of nothing else.
var emptyState = []byte{0, 1, 2, 0, 0, 0}

// TestCheckpointBefore: what lies after the place where two histories part is
// gone through from a checkpoint before it, or from the first that there is.
func TestCheckpointBefore(t *testing.T) {
	t.Parallel()
	n := newLogOnlyNode(t) // with a checkpoint at 10 and entries up to 20
	var newest gcs.Checkpoint
	for _, index := range []uint64{15, 18} {
		newest = gcs.Checkpoint{Index: index, Term: 2, Data: emptyState}
		if err := n.log.SaveCheckpoint(newest); err != nil {
			t.Fatal(err)
		}
	}
	for after, want := range map[uint64]uint64{20: 18, 18: 18, 17: 15, 15: 15, 14: 10, 10: 10, 9: 10, 0: 10} {
		c, err := n.checkpointBefore(after, newest)
		if err != nil {
			t.Fatal(err)
		}
		if c.Index != want {
			t.Errorf("before %d: the checkpoint at %d, want %d", after, c.Index, want)
		}
	}
}
