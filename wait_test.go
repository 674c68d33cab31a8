package concordat_test

import (
	"errors"
	"testing"

	"github.com/concordatdb/concordat"
)

// An Update that waits to see what won is told that this will never come.
func TestUpdateWaitsForWinnerOnMemberThatFails(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 1)
	cfg := joiner(t, g.nodes[0])
	engine := newFaultyEngine(t, cfg.Dir)
	cfg.Engine = engine
	bad := mustOpen(t, cfg)
	mustPut(t, bad, "before", "1")
	applying, goOn := make(chan struct{}), make(chan struct{})
	engine.fault <- func() error {
		close(applying)
		<-goOn
		return errFaulty
	}
	runs := 0
	result := make(chan error, 1)
	go func() {
		_, err := bad.Update(ctx, func(tx *concordat.Tx) error {
			if runs++; runs > 1 {
				return errors.New("run again before the winner was visible")
			}
			if err := add(ctx, g.nodes[0], "x", 1); err != nil {
				return err
			}
			<-applying
			return tx.Put(accounts, []byte("x"), []byte("lost"))
		})
		result <- err
	}()
	eventually(t, "the conflict", func() bool { return bad.Status().Counters.Conflicts > 0 })
	close(goOn)
	if err := <-result; !errors.Is(err, concordat.ErrFailed) {
		t.Errorf("update: %v, want ErrFailed", err)
	}
	mustClose(t, bad)
}
