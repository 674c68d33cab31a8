package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

func TestGroupSettings(t *testing.T) {
	at := atNode(startNode(t, t.TempDir(), "--bootstrap", "--range-writes", "77"))
	const founded = `NAME                               VALUE
version                            1
history-items                      4194304
history-size                       512MiB
range-writes                       77
outcome-transactions               65536
gtid-assignment-block-size         1
transaction-size-limit             150000000B
default-consistency                EVENTUAL
prefer-most-updated                false
state-check-interval               2000
state-check-size                   64KiB
flow-control-mode                  ADAPTIVE
flow-control-scope                 ALL
flow-control-target-lag            2s
flow-control-hard-lag              0s
flow-control-floor                 100
flow-control-period                1
flow-control-certifier-threshold   25000
flow-control-applier-threshold     25000
flow-control-min-quota             0
flow-control-min-recovery-quota    0
flow-control-max-quota             0
flow-control-member-quota-percent  0
flow-control-hold-percent          10
flow-control-release-percent       50
`
	if got := want(t, exitOK, at("settings")...); got != founded {
		t.Errorf("a new group has\n%s\nwant\n%s", got, founded)
	}
	var s settingsJSON
	changed := want(t, exitOK, at("settings", "--json", "--set", "history-items=1000,history-size=1GiB",
		"--set", "outcome-transactions=12", "--set", "range-writes=0", "--set", "gtid-assignment-block-size=8", "--set", "default-consistency=before,prefer-most-updated=true,state-check-interval=-1,state-check-size=1MiB,transaction-size-limit=1MiB",
		"--set", "flow-control-mode=quota,flow-control-applier-threshold=500,flow-control-target-lag=1500ms")...)
	if err := json.Unmarshal([]byte(changed), &s); err != nil {
		t.Fatalf("%v in\n%s", err, changed)
	}
	flow := flowSettingsJSON{"QUOTA", "ALL", 1500, 0, 100, 1, 25000, 500, 0, 0, 0, 0, 10, 50}
	if want := (settingsJSON{2, 1000, 1 << 30, 65536, 12, 8, "BEFORE", true, -1, 1 << 20, 1 << 20, flow}); s != want {
		t.Errorf("changed to %+v, want %+v", s, want)
	}
	if got := want(t, exitOK, at("settings", "--json")...); got != changed {
		t.Errorf("then they are %s, want %s", got, changed)
	}
	for _, c := range []struct {
		set, text string
	}{
		{"history=1", "history-items, history-size, range-writes"},
		{"version=9", "no group setting"},
		{"history-items", "name=value"},
		{"history-items=-1", `"-1" is no number`},
		{"history-items=many", `"many" is no number`},
		{"history-size=64MB", "64MiB"},
		{"history-size=-1B", "is no size"},
		{"gtid-assignment-block-size=-1", `"-1" is no number`},
		{"default-consistency=strong", "BEFORE_AND_AFTER"},
		{"prefer-most-updated=perhaps", "neither true nor false"},
		{"state-check-interval=-2", "or -1 for no checks"},
		{"state-check-size=1GiB", "StateCheckBytes is"},
		{"transaction-size-limit=2GiB", "TransactionSizeLimit is 2147483648"},
		{"range-writes=1,range-writes=2", "twice"},
		{"flow-control-mode=fast", "ADAPTIVE"},
		{"flow-control-scope=some", "MAJORITY"},
		{"flow-control-target-lag=2", "no time"},
		{"flow-control-target-lag=1ms", "TargetLag is 1ms, it must be between"},
		{"flow-control-floor=0", "Floor is 0"},
		{"range-writes=100000000", "RangeWrites is 100000000, it must be between"},
		{"gtid-assignment-block-size=9223372036854775808", "GTIDAssignmentBlockSize"},
	} {
		if text := want(t, exitUsage, at("settings", "--set", c.set)...); !strings.Contains(text, c.text) {
			t.Errorf("--set %s said %q, want %q in it", c.set, text, c.text)
		}
	}
	if got := want(t, exitOK, at("settings", "--json")...); got != changed {
		t.Errorf("refused changes made %s of %s", got, changed)
	}
}

// A setting has the name with which a group is founded, and is what it was set
// to.
func TestGroupSettingNames(t *testing.T) {
	s := defaultSettings()
	flags := s.flags()
	for _, g := range groupSettings {
		f := flags.Lookup(g.name)
		if f == nil {
			t.Errorf("concordat node has no --%s", g.name)
			continue
		}
		var set adminpb.Settings
		if err := g.set(&set, f.DefValue); err != nil || g.get(&set) != f.DefValue {
			t.Errorf("%s: %s became %s: %v", g.name, f.DefValue, g.get(&set), err)
		}
		if err := g.set(&set, "0"); err != nil {
			t.Errorf("%s: the default cannot be set: %v", g.name, err)
		}
	}
	founding := 0
	flags.VisitAll(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Usage, "with --bootstrap: ") {
			founding++
		}
	})
	if founding != len(groupSettings) {
		t.Errorf("a group is founded with %d settings, and %d can be changed", founding, len(groupSettings))
	}
}
