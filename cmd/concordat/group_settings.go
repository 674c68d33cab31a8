package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

func newSettingsCommand() *cobra.Command {
	var f clientFlags
	var changes []string
	cmd := &cobra.Command{
		Use:   "settings",
		Short: "Show or change the settings of the group",
		Long: `Show the settings that all members of the group share, or change them with
--set, on all members at once, and show what they are then. The names are those
of concordat node, which a new group is founded with:

` + settingsHelp() + `
A 0 sets the default, but among the numbers and times of flow-control it is a 0.
When somebody else changes the settings at the same time, nothing happens and the
exit code is 4.`,
		Example: `  concordat settings
  concordat settings --set outcome-transactions=1000000
  concordat settings --set history-items=8000000,history-size=1GiB --json`,
		Args: exactArgs(),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.Flags().StringSliceVar(&changes, "set", nil, "change a setting: `name=value`; may be given again")
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
		if err := change(&adminpb.Settings{}, changes); err != nil { // before anybody is asked
			return err
		}
		r, err := c.GetSettings(ctx, &adminpb.GetSettingsRequest{})
		if err != nil {
			return err
		}
		s := r.GetSettings()
		if len(changes) > 0 {
			if err := change(s, changes); err != nil {
				return err
			}
			changed, err := c.SetSettings(ctx, &adminpb.SetSettingsRequest{Settings: s})
			if err != nil {
				return err
			}
			s = changed.GetSettings()
		}
		if f.json {
			return printSettingsJSON(cmd.OutOrStdout(), s)
		}
		return printSettings(cmd.OutOrStdout(), s)
	})
	return cmd
}

// orEventual is the level of those who choose none.
func orEventual(level string) string {
	if level == "" {
		return concordat.Eventual.String()
	}
	return level
}

// groupSetting is one setting of the group. get and set have its value as
// text.
type groupSetting struct {
	name, help string
	get        func(*adminpb.Settings) string
	set        func(*adminpb.Settings, string) error
}

var groupSettings = append([]groupSetting{
	number("history-items", "items that the certification history may hold",
		func(s *adminpb.Settings) *int64 { return &s.HistoryItems }),
	{
		"history-size", "and about how much memory",
		func(s *adminpb.Settings) string { v := size(s.GetHistoryBytes()); return v.String() },
		func(s *adminpb.Settings, text string) error { return setSize(&s.HistoryBytes, text) },
	},
	number("range-writes", "last written keys that are remembered for scans",
		func(s *adminpb.Settings) *int64 { return &s.RangeWrites }),
	number("outcome-transactions", "last transactions that are remembered by id",
		func(s *adminpb.Settings) *int64 { return &s.OutcomeTransactions }),
	{
		"gtid-assignment-block-size", "consecutive GTIDs reserved for a member at a time",
		func(s *adminpb.Settings) string { return strconv.FormatUint(s.GetGtidAssignmentBlockSize(), 10) },
		func(s *adminpb.Settings, text string) (err error) {
			if s.GtidAssignmentBlockSize, err = strconv.ParseUint(text, 10, 64); err != nil {
				return errNoNumber(text)
			}
			return nil
		},
	},
	{
		"transaction-size-limit", "largest transaction",
		func(s *adminpb.Settings) string { v := size(s.GetTransactionSizeLimit()); return v.String() },
		func(s *adminpb.Settings, text string) error { return setSize(&s.TransactionSizeLimit, text) },
	},
	{
		"default-consistency", "level of transactions for which nobody chooses one",
		func(s *adminpb.Settings) string { return orEventual(s.GetConsistency()) },
		func(s *adminpb.Settings, text string) error {
			if text == "0" {
				text = ""
			}
			var l level
			err := l.Set(text)
			s.Consistency = l.String()
			return err
		},
	},
	{
		"prefer-most-updated", "elect a primary that has applied most of the log",
		func(s *adminpb.Settings) string { return strconv.FormatBool(s.GetPreferMostUpdated()) },
		func(s *adminpb.Settings, text string) (err error) {
			if s.PreferMostUpdated, err = strconv.ParseBool(text); err != nil {
				return fmt.Errorf("%q is neither true nor false", text)
			}
			return nil
		},
	},
	{
		"state-check-interval", "transactions between two state checks, -1 for none",
		func(s *adminpb.Settings) string { return strconv.FormatInt(s.GetStateCheckInterval(), 10) },
		func(s *adminpb.Settings, text string) (err error) {
			if s.StateCheckInterval, err = strconv.ParseInt(text, 10, 64); err != nil || s.StateCheckInterval < -1 {
				return fmt.Errorf("%q is no interval: write a number of transactions, or -1 for no checks", text)
			}
			return nil
		},
	},
	{
		"state-check-size", "and about how much data each member hashes for one",
		func(s *adminpb.Settings) string { v := size(s.GetStateCheckBytes()); return v.String() },
		func(s *adminpb.Settings, text string) error {
			if text == "0" {
				text = "0B"
			}
			return (*size)(&s.StateCheckBytes).Set(text)
		},
	},
}, flowSettings()...)

// setSize sets a number of bytes.
func setSize(to *int64, text string) error {
	if text == "0" {
		text = "0B"
	}
	return (*size)(to).Set(text)
}

func number(name, help string, field func(*adminpb.Settings) *int64) groupSetting {
	return groupSetting{
		name, help,
		func(s *adminpb.Settings) string { return strconv.FormatInt(*field(s), 10) },
		func(s *adminpb.Settings, text string) error {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || n < 0 {
				return errNoNumber(text)
			}
			*field(s) = n
			return nil
		},
	}
}

func errNoNumber(text string) error {
	return fmt.Errorf("%q is no number: write a whole one that is not negative", text)
}

func settingsHelp() string {
	var text strings.Builder
	for _, g := range groupSettings {
		say(&text, "  %-33s %s\n", g.name, g.help)
	}
	return text.String()
}

// change applies name=value to s, each name once.
func change(s *adminpb.Settings, changes []string) error {
	var done []string
	for _, c := range changes {
		name, value, ok := strings.Cut(c, "=")
		if !ok {
			return usagef("--set %q: write name=value, as in history-size=1GiB", c)
		}
		i := slices.IndexFunc(groupSettings, func(g groupSetting) bool { return g.name == name })
		if i < 0 {
			return usagef("there is no group setting %q; there are %s", name, strings.Join(settingNames(), ", "))
		}
		if slices.Contains(done, name) {
			return usagef("--set gives %s twice", name)
		}
		if err := groupSettings[i].set(s, value); err != nil {
			return usagef("--set %s: %w", name, err)
		}
		done = append(done, name)
	}
	return nil
}

func settingNames() (names []string) {
	for _, g := range groupSettings {
		names = append(names, g.name)
	}
	return names
}

func printSettings(w io.Writer, s *adminpb.Settings) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	say(t, "NAME\tVALUE\nversion\t%d\n", s.GetVersion())
	for _, g := range groupSettings {
		say(t, "%s\t%s\n", g.name, g.get(s))
	}
	return t.Flush()
}

// settingsJSON is what settings --json prints. Its fields stay.
type settingsJSON struct {
	Version                 uint64 `json:"version"`
	HistoryItems            int64  `json:"history_items"`
	HistoryBytes            int64  `json:"history_bytes"`
	RangeWrites             int64  `json:"range_writes"`
	OutcomeTransactions     int64  `json:"outcome_transactions"`
	GTIDAssignmentBlockSize uint64 `json:"gtid_assignment_block_size"`
	DefaultConsistency      string `json:"default_consistency"`
	PreferMostUpdated       bool   `json:"prefer_most_updated"`
	StateCheckInterval      int64  `json:"state_check_interval"`
	StateCheckBytes         int64  `json:"state_check_bytes"`
	TransactionSizeLimit    int64  `json:"transaction_size_limit"`

	FlowControl flowSettingsJSON `json:"flow_control"`
}

func printSettingsJSON(w io.Writer, s *adminpb.Settings) error {
	return json.NewEncoder(w).Encode(settingsJSON{
		Version:      s.GetVersion(),
		HistoryItems: s.GetHistoryItems(), HistoryBytes: s.GetHistoryBytes(),
		RangeWrites: s.GetRangeWrites(), OutcomeTransactions: s.GetOutcomeTransactions(),
		GTIDAssignmentBlockSize: s.GetGtidAssignmentBlockSize(),
		DefaultConsistency:      orEventual(s.GetConsistency()), PreferMostUpdated: s.GetPreferMostUpdated(),
		StateCheckInterval: s.GetStateCheckInterval(), StateCheckBytes: s.GetStateCheckBytes(),
		TransactionSizeLimit: s.GetTransactionSizeLimit(),
		FlowControl:          flowSettingsOf(s.GetFlowControl()),
	})
}
