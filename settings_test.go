package concordat_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/concordatdb/concordat"
)

// mustHave waits until a member has the settings.
func mustHave(t testing.TB, n *concordat.Node, want concordat.GroupSettings) {
	t.Helper()
	eventually(t, "the settings", func() bool { return n.GroupSettings().Version >= want.Version })
	if got := n.GroupSettings(); got != want {
		t.Errorf("settings %+v, want %+v", got, want)
	}
}

// The founder's settings are the group's, whatever the others would have
// founded, and outlive everybody's restart, as do changes.
func TestGroupSettings(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	first := concordat.GroupSettings{
		HistoryItems: 5000, HistoryBytes: 1 << 20, RangeWrites: 100, OutcomeTransactions: 50, GTIDAssignmentBlockSize: 1,
		StateCheckInterval: -1, StateCheckBytes: 99, TransactionSizeLimit: 1 << 25,
	}
	founders := true
	g := openGroup(t, 2, func(c *concordat.Config) {
		if c.Founding = first; !founders {
			c.Founding.HistoryItems = 17
		}
		founders = false
	})
	want := first
	want.Version, want.FlowControl = 1, concordat.DefaultFlowControl()
	for _, n := range g.nodes {
		mustHave(t, n, want)
	}
	change := g.nodes[1].GroupSettings()
	change.HistoryItems, change.RangeWrites = 6000, 0
	change.FlowControl.Mode, change.FlowControl.ApplierThreshold, change.FlowControl.ReleasePercent = concordat.FlowQuota, 500, 0
	got, err := g.nodes[1].SetGroupSettings(ctx, change)
	if err != nil {
		t.Fatal(err)
	}
	want.Version, want.HistoryItems, want.RangeWrites = 2, 6000, concordat.DefaultRangeWrites
	want.FlowControl = change.FlowControl
	if got != want {
		t.Errorf("the change made %+v, want %+v", got, want)
	}
	mustHave(t, g.nodes[0], want)
	g.nodes = append(g.nodes, mustOpen(t, joiner(t, g.nodes[0])))
	mustHave(t, g.nodes[2], want)
	mustClose(t, g.nodes[2])
	mustClose(t, g.nodes[1])
	mustClose(t, g.nodes[0])
	back := make([]*concordat.Node, 2)
	var opening sync.WaitGroup
	for i := range back {
		opening.Go(func() {
			var err error
			if back[i], err = concordat.Open(ctx, again(g.nodes[i], g.cfgs[i])); err != nil {
				t.Errorf("open member %d: %v", i, err)
			}
		})
	}
	opening.Wait()
	for _, n := range back {
		if n != nil {
			t.Cleanup(func() { _ = n.Close() })
			mustHave(t, n, want)
		}
	}
}

// A group that nobody configured has the defaults.
func TestDefaultGroupSettings(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	mustHave(t, n, concordat.GroupSettings{
		Version: 1, HistoryItems: concordat.DefaultHistoryItems, HistoryBytes: concordat.DefaultHistoryBytes,
		RangeWrites: concordat.DefaultRangeWrites, OutcomeTransactions: concordat.DefaultOutcomeTransactions,
		GTIDAssignmentBlockSize: concordat.DefaultGTIDAssignmentBlockSize, FlowControl: concordat.DefaultFlowControl(),
		StateCheckInterval: concordat.DefaultStateCheckInterval, StateCheckBytes: concordat.DefaultStateCheckBytes,
		TransactionSizeLimit: concordat.DefaultTransactionSizeLimit,
	})
	// They are what zeros stand for.
	changed, err := n.SetGroupSettings(testContext(t), concordat.GroupSettings{Version: 1})
	want := n.GroupSettings()
	if err != nil || changed != want || changed.Version != 2 || changed.HistoryItems != concordat.DefaultHistoryItems {
		t.Errorf("zeros made %+v, %v, the group has %+v", changed, err, want)
	}
}

// Of changes made from one version, on several members at once, one happens.
func TestGroupSettingsAreChangedOnce(t *testing.T) {
	t.Parallel()
	const rivals = 3
	g := openGroup(t, 2)
	before := g.nodes[0].GroupSettings()
	mustHave(t, g.nodes[1], before)
	results := make(chan error, 2*rivals)
	for i := range 2 * rivals {
		go func() {
			s := before
			s.OutcomeTransactions = 100 + i
			got, err := g.nodes[i%2].SetGroupSettings(testContext(t), s)
			if err == nil && (got.OutcomeTransactions != 100+i || got.Version != before.Version+1) {
				t.Errorf("asked for %d, got %+v", 100+i, got)
			}
			results <- err
		}()
	}
	changed := 0
	for range 2 * rivals {
		switch err := <-results; {
		case err == nil:
			changed++
		case !errors.Is(err, concordat.ErrSettings) || !strings.Contains(err.Error(), "version 2"):
			t.Errorf("a change that came late: %v, want ErrSettings that names version 2", err)
		}
	}
	if changed != 1 {
		t.Errorf("%d of %d changes from one version happened", changed, 2*rivals)
	}
	after := g.nodes[0].GroupSettings()
	eventually(t, "the change", func() bool { after = g.nodes[0].GroupSettings(); return after.Version == before.Version+1 })
	mustHave(t, g.nodes[1], after)
	for _, version := range []uint64{0, before.Version, after.Version + 1} {
		s := after
		s.Version = version
		if _, err := g.nodes[1].SetGroupSettings(testContext(t), s); !errors.Is(err, concordat.ErrSettings) {
			t.Errorf("change of version %d to one from %d: %v, want ErrSettings", after.Version, version, err)
		}
	}
}

// What cannot be is refused by name, before anybody hears of it.
func TestGroupSettingsThatCannotBe(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	before := n.GroupSettings()
	for name, change := range map[string]func(*concordat.GroupSettings){
		"HistoryItems":            func(s *concordat.GroupSettings) { s.HistoryItems = -1 },
		"HistoryBytes":            func(s *concordat.GroupSettings) { s.HistoryBytes = -1 },
		"RangeWrites":             func(s *concordat.GroupSettings) { s.RangeWrites = 1 << 30 },
		"OutcomeTransactions":     func(s *concordat.GroupSettings) { s.OutcomeTransactions = 1 << 30 },
		"GTIDAssignmentBlockSize": func(s *concordat.GroupSettings) { s.GTIDAssignmentBlockSize = 1 << 63 },
	} {
		s := before
		change(&s)
		if _, err := n.SetGroupSettings(testContext(t), s); !errors.Is(err, concordat.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want ErrInvalid that names it", name, err)
		}
		cfg := founder(t)
		change(&cfg.Founding)
		if err := cfg.Validate(); !errors.Is(err, concordat.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("founding with that %s: %v, want ErrInvalid that names it", name, err)
		}
	}
	if got := n.GroupSettings(); got != before {
		t.Errorf("settings %+v, want %+v", got, before)
	}
}

// Without a quorum the call ends with its context, and with the member; the
// error says that the change may yet come.
func TestGroupSettingsWithoutQuorum(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	n, _ := stalled(t, g)
	s := n.GroupSettings()
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(testContext(t))
	cancel(why)
	if _, err := n.SetGroupSettings(ctx, s); !errors.Is(err, why) || !strings.Contains(err.Error(), "may change yet") {
		t.Errorf("got %v, want the cause of the context", err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := n.SetGroupSettings(testContext(t), s)
		result <- err
	}()
	mustClose(t, n)
	if err := <-result; !errors.Is(err, concordat.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// Scans that are older than the writes that the group remembers are too old;
// keys that were read are not.
func TestRangeWritesBoundScans(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, func(c *concordat.Config) { c.Founding.RangeWrites = 3 })
	for writes, want := range map[int]error{3: nil, 4: concordat.ErrSnapshotTooOld} {
		scans, reads := serializable(t, g.nodes[1]), serializable(t, g.nodes[1])
		pairs(scans.Scan(duty, nil, nil))
		mustRead(t, reads, "other", "")
		mustWrite(t, errors.Join(scans.Put(elsewhere, []byte("s"), nil), reads.Put(elsewhere, []byte("r"), nil)))
		for range writes {
			mustPut(t, g.nodes[0], "k", "1")
		}
		_, err := scans.Commit(testContext(t))
		if !errors.Is(err, want) || (want == nil && err != nil) || (err != nil && !concordat.Retryable(err)) {
			t.Errorf("scan after %d writes: %v, want %v", writes, err, want)
		}
		if want != nil {
			if o := mustOutcome(t, g.nodes[1], scans.ID(), concordat.OutcomeRefused); !errors.Is(o.Reason, want) {
				t.Errorf("outcome %+v, want %v", o, want)
			}
		}
		mustCommit(t, reads)
		mustAgree(t, g.nodes...)
	}
	if got := g.nodes[1].Status().Counters.SnapshotsTooOld; got != 1 {
		t.Errorf("%d snapshots were too old, want 1", got)
	}
}

// With blocks each member numbers its transactions within its own; without them
// again, numbers follow the order of commits and fill the lowest holes.
func TestGTIDBlocks(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, func(c *concordat.Config) { c.Founding.GTIDAssignmentBlockSize = 3 })
	numbers := map[uint64]bool{}
	commit := func(at int) uint64 {
		id := mustPut(t, g.nodes[at], "k", "1")
		mustAgree(t, g.nodes...)
		if id.UUID != g.nodes[0].Status().Group || numbers[id.Number] {
			t.Errorf("%s was assigned, after %v", id, numbers)
		}
		numbers[id.Number] = true
		return id.Number
	}
	if got, want := []uint64{commit(0), commit(1), commit(0)}, []uint64{1, 4, 2}; !slices.Equal(got, want) {
		t.Errorf("numbers %d, want %d", got, want)
	}
	for i := range 10 {
		commit(i % 2)
	}
	s := g.nodes[0].GroupSettings()
	s.GTIDAssignmentBlockSize = 1
	if _, err := g.nodes[0].SetGroupSettings(testContext(t), s); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		lowest := uint64(1)
		for numbers[lowest] {
			lowest++
		}
		if got := commit(i % 2); got != lowest {
			t.Errorf("%d was assigned without blocks, the lowest hole is %d", got, lowest)
		}
	}
}
