package server

import (
	"context"
	"fmt"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// GetSettings implements adminpb.AdminServer.
func (a *admin) GetSettings(context.Context, *adminpb.GetSettingsRequest) (*adminpb.GetSettingsResponse, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	s := n.GroupSettings()
	if s.Version == 0 {
		return nil, toStatus(fmt.Errorf("%w: it has not learnt the group's settings yet", concordat.ErrNotOnline))
	}
	return &adminpb.GetSettingsResponse{Settings: settings(s)}, nil
}

// SetSettings implements adminpb.AdminServer.
func (a *admin) SetSettings(ctx context.Context, r *adminpb.SetSettingsRequest) (*adminpb.SetSettingsResponse, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	wish, err := groupSettings(r.GetSettings())
	if err != nil {
		return nil, toStatus(err)
	}
	s, err := n.SetGroupSettings(ctx, wish)
	if err != nil {
		return nil, toStatus(err)
	}
	return &adminpb.SetSettingsResponse{Settings: settings(s)}, nil
}

func settings(s concordat.GroupSettings) *adminpb.Settings {
	return &adminpb.Settings{
		Version:      s.Version,
		HistoryItems: int64(s.HistoryItems), HistoryBytes: int64(s.HistoryBytes),
		RangeWrites: int64(s.RangeWrites), OutcomeTransactions: int64(s.OutcomeTransactions),
		GtidAssignmentBlockSize: s.GTIDAssignmentBlockSize,
		Consistency:             levelText(s.Consistency), PreferMostUpdated: s.PreferMostUpdated,
		StateCheckInterval: int64(s.StateCheckInterval), StateCheckBytes: int64(s.StateCheckBytes),
		TransactionSizeLimit: int64(s.TransactionSizeLimit),
		FlowControl:          flowControl(&s.FlowControl),
	}
}

// levelText returns the name of a level, empty for none.
func levelText(l concordat.Consistency) string {
	if l == 0 {
		return ""
	}
	return l.String()
}

// someLevel is the reverse of levelText.
func someLevel(text string) (concordat.Consistency, error) {
	if text == "" {
		return 0, nil
	}
	l, err := concordat.ParseConsistency(text)
	if err != nil {
		return l, fmt.Errorf("%w: %w", concordat.ErrInvalid, err)
	}
	return l, nil
}

// groupSettings is the reverse of settings. Only what no int can hold, and what
// is no level, is an error: what settings can be is the node's business.
func groupSettings(s *adminpb.Settings) (concordat.GroupSettings, error) {
	out := concordat.GroupSettings{
		Version: s.GetVersion(), GTIDAssignmentBlockSize: s.GetGtidAssignmentBlockSize(), PreferMostUpdated: s.GetPreferMostUpdated(),
	}
	var err error
	if out.Consistency, err = someLevel(s.GetConsistency()); err != nil {
		return out, err
	}
	if out.FlowControl, err = someFlowControl(s.GetFlowControl()); err != nil {
		return out, err
	}
	for _, f := range []struct {
		name string
		from int64
		to   *int
	}{
		{"history_items", s.GetHistoryItems(), &out.HistoryItems},
		{"history_bytes", s.GetHistoryBytes(), &out.HistoryBytes},
		{"range_writes", s.GetRangeWrites(), &out.RangeWrites},
		{"outcome_transactions", s.GetOutcomeTransactions(), &out.OutcomeTransactions},
		{"state_check_interval", s.GetStateCheckInterval(), &out.StateCheckInterval},
		{"state_check_bytes", s.GetStateCheckBytes(), &out.StateCheckBytes},
		{"transaction_size_limit", s.GetTransactionSizeLimit(), &out.TransactionSizeLimit},
	} {
		if *f.to = int(f.from); int64(*f.to) != f.from {
			return out, fmt.Errorf("%w: %s is %d, which this member cannot hold", concordat.ErrInvalid, f.name, f.from)
		}
	}
	return out, nil
}
