package server

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// Each setting goes over the network, and comes back.
func TestSettingsTravel(t *testing.T) {
	sent := concordat.GroupSettings{}
	for i, f := range reflect.ValueOf(&sent).Elem().Fields() {
		switch f.Kind() {
		case reflect.Uint64:
			f.SetUint(uint64(len(i.Name)))
		case reflect.Uint8:
			f.SetUint(uint64(concordat.BeforeAndAfter))
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Struct:
			f.Set(reflect.ValueOf(concordat.FlowControl{
				Mode: concordat.FlowQuota, Scope: concordat.FlowMajority, TargetLag: time.Second, HardLag: time.Minute,
				Floor: 1, Period: 2, CertifierThreshold: 3, ApplierThreshold: 4, MinQuota: 5, MinRecoveryQuota: 6, MaxQuota: 7,
				MemberQuotaPercent: 8, HoldPercent: 9, ReleasePercent: 10,
			}))
		default:
			f.SetInt(int64(len(i.Name)) << 32)
		}
	}
	got, err := groupSettings(settings(sent))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Error(diff)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := openNode(t)
	_, c := start(t, n, Config{})
	r, err := c.GetSettings(ctx, &adminpb.GetSettingsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	founded := r.GetSettings()
	if founded.GetVersion() != 1 || founded.GetHistoryItems() != concordat.DefaultHistoryItems || founded.GetOutcomeTransactions() != concordat.DefaultOutcomeTransactions {
		t.Fatalf("of a new group: %v", founded)
	}
	wish := proto.CloneOf(founded)
	wish.OutcomeTransactions, wish.RangeWrites = 12, 0 // 0 is the default
	wish.Consistency, wish.PreferMostUpdated = "BEFORE", true
	changed, err := c.SetSettings(ctx, &adminpb.SetSettingsRequest{Settings: wish})
	if err != nil {
		t.Fatal(err)
	}
	wish.Version, wish.RangeWrites = 2, concordat.DefaultRangeWrites
	if diff := cmp.Diff(wish, changed.GetSettings(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if r, err = c.GetSettings(ctx, &adminpb.GetSettingsRequest{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wish, r.GetSettings(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}

	for _, test := range []struct {
		name   string
		change func(*adminpb.Settings)
		want   error
		text   string
	}{
		{"from an old version", func(s *adminpb.Settings) { s.Version = 1 }, concordat.ErrSettings, "version 2"},
		{"from no version", func(s *adminpb.Settings) { s.Version = 0 }, concordat.ErrSettings, "version 2"},
		{"a negative number", func(s *adminpb.Settings) { s.HistoryItems = -1 }, concordat.ErrInvalid, "HistoryItems is -1"},
		{"no level", func(s *adminpb.Settings) { s.Consistency = "STRONG" }, concordat.ErrInvalid, "BEFORE_AND_AFTER"},
		{"too many", func(s *adminpb.Settings) { s.OutcomeTransactions = 1 << 40 }, concordat.ErrInvalid, "OutcomeTransactions"},
	} {
		s := proto.CloneOf(wish)
		test.change(s)
		_, err := c.SetSettings(ctx, &adminpb.SetSettingsRequest{Settings: s})
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v, want %v with %q", test.name, err, test.want, test.text)
		}
	}
	if got := n.GroupSettings().Version; got != 2 {
		t.Errorf("refused changes made version %d", got)
	}
}

// A server without a node says so.
func TestAdminBeforeThereIsANode(t *testing.T) {
	ctx := testContext(t)
	_, c := start(t, nil, Config{})
	_, conflicts := c.Conflicts(ctx, &adminpb.ConflictsRequest{})
	_, get := c.GetSettings(ctx, &adminpb.GetSettingsRequest{})
	_, set := c.SetSettings(ctx, &adminpb.SetSettingsRequest{})
	for _, err := range []error{conflicts, get, set} {
		if !errors.Is(err, concordat.ErrNotOnline) {
			t.Error(err)
		}
	}
}
