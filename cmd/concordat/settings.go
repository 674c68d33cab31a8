package main

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"

	"github.com/concordatdb/concordat"
)

// nodeSettings is what a node is told. Each has one name: --client-listen on
// the command line is CONCORDAT_CLIENT_LISTEN in the environment and
// client-listen in the file. The command line wins over the environment, and
// the environment over the file.
type nodeSettings struct {
	Group         string   `toml:"group"`
	Dir           string   `toml:"dir"`
	Bootstrap     bool     `toml:"bootstrap"`
	Seeds         []string `toml:"seeds"`
	Member        string   `toml:"member"`
	Weight        int      `toml:"weight"`
	Listen        string   `toml:"listen"`
	Advertise     string   `toml:"advertise"`
	ClientListen  string   `toml:"client-listen"`
	ClientAddress string   `toml:"client-address"`

	TLSCert       string `toml:"tls-cert"`
	TLSKey        string `toml:"tls-key"`
	TLSCA         string `toml:"tls-ca"`
	ClientTLSCert string `toml:"client-tls-cert"`
	ClientTLSKey  string `toml:"client-tls-key"`
	ClientTLSCA   string `toml:"client-tls-ca"`

	CacheSize            size     `toml:"cache-size"`
	TransactionSizeLimit size     `toml:"transaction-size-limit"`
	MaxPendingCommits    int      `toml:"max-pending-commits"`
	MaxPendingSize       size     `toml:"max-pending-size"`
	CheckpointSize       size     `toml:"checkpoint-size"`
	WarmLog              bool     `toml:"warm-log"`
	ApplyQueueSize       size     `toml:"apply-queue-size"`
	ApplyWorkers         int      `toml:"apply-workers"`
	TickInterval         duration `toml:"tick-interval"`
	ElectionTicks        int      `toml:"election-ticks"`

	ChangeRetention    size     `toml:"change-retention"`
	ChangeRetentionAge duration `toml:"change-retention-age"`
	ChangeOldValues    bool     `toml:"change-old-values"`
	MaxChangeConsumers int      `toml:"max-change-consumers"`

	Consistency     level    `toml:"consistency"`
	FailoverTimeout duration `toml:"failover-timeout"`

	MemberSuspectTimeout       duration `toml:"member-suspect-timeout"`
	MemberExpelTimeout         duration `toml:"member-expel-timeout"`
	UnreachableMajorityTimeout duration `toml:"unreachable-majority-timeout"`
	AutoRejoinTries            int      `toml:"autorejoin-tries"`
	AutoRejoinInterval         duration `toml:"autorejoin-interval"`
	ExitStateAction            string   `toml:"exit-state-action"`
	LogStallTimeout            duration `toml:"log-stall-timeout"`
	IPAllowlist                []string `toml:"ip-allowlist"`
	CloneRate                  size     `toml:"clone-rate"`
	Donor                      string   `toml:"donor"`
	Replaces                   string   `toml:"replaces"`
	FlowControlExempt          bool     `toml:"flow-control-exempt"`

	// The founding configuration of a new group.
	SinglePrimary                 bool     `toml:"single-primary"`
	MultiPrimary                  bool     `toml:"multi-primary"`
	HistoryItems                  int      `toml:"history-items"`
	HistorySize                   size     `toml:"history-size"`
	RangeWrites                   int      `toml:"range-writes"`
	OutcomeTransactions           int      `toml:"outcome-transactions"`
	GTIDAssignmentBlockSize       uint64   `toml:"gtid-assignment-block-size"`
	DefaultConsistency            level    `toml:"default-consistency"`
	PreferMostUpdated             bool     `toml:"prefer-most-updated"`
	StateCheckInterval            int      `toml:"state-check-interval"`
	StateCheckSize                size     `toml:"state-check-size"`
	FlowControlMode               string   `toml:"flow-control-mode"`
	FlowControlScope              string   `toml:"flow-control-scope"`
	FlowControlTargetLag          duration `toml:"flow-control-target-lag"`
	FlowControlHardLag            duration `toml:"flow-control-hard-lag"`
	FlowControlFloor              int      `toml:"flow-control-floor"`
	FlowControlPeriod             int      `toml:"flow-control-period"`
	FlowControlCertifierThreshold int      `toml:"flow-control-certifier-threshold"`
	FlowControlApplierThreshold   int      `toml:"flow-control-applier-threshold"`
	FlowControlMinQuota           int      `toml:"flow-control-min-quota"`
	FlowControlMinRecoveryQuota   int      `toml:"flow-control-min-recovery-quota"`
	FlowControlMaxQuota           int      `toml:"flow-control-max-quota"`
	FlowControlMemberQuotaPercent int      `toml:"flow-control-member-quota-percent"`
	FlowControlHoldPercent        int      `toml:"flow-control-hold-percent"`
	FlowControlReleasePercent     int      `toml:"flow-control-release-percent"`

	StartTimeout duration `toml:"start-timeout"`
	LeaveTimeout duration `toml:"leave-timeout"`
	OnSIGTERM    string   `toml:"on-sigterm"`
	LogLevel     string   `toml:"log-level"`
	LogFormat    string   `toml:"log-format"`
	JSON         bool     `toml:"json"`
}

// What a node does on SIGTERM.
const (
	onSIGTERMLeave = "leave"
	onSIGTERMStop  = "stop"
)

func defaultSettings() nodeSettings {
	s := nodeSettings{
		Weight: concordat.DefaultMemberWeight,
		Listen: "127.0.0.1:7400", ClientListen: defaultClientAddress,
		CacheSize:            concordat.DefaultCacheBytes,
		TransactionSizeLimit: concordat.DefaultTransactionSizeLimit,
		MaxPendingCommits:    concordat.DefaultMaxPendingCommits,
		MaxPendingSize:       concordat.DefaultMaxPendingBytes,
		CheckpointSize:       concordat.DefaultCheckpointBytes,
		ApplyQueueSize:       concordat.DefaultApplyQueueBytes,
		TickInterval:         duration(concordat.DefaultTickInterval),
		ElectionTicks:        concordat.DefaultElectionTicks,

		MaxChangeConsumers: concordat.DefaultMaxChangeConsumers,

		FailoverTimeout: duration(concordat.DefaultFailoverTimeout),

		MemberSuspectTimeout: duration(concordat.DefaultMemberSuspectTimeout),
		MemberExpelTimeout:   duration(concordat.DefaultMemberExpelTimeout),
		AutoRejoinTries:      concordat.DefaultAutoRejoinTries,
		AutoRejoinInterval:   duration(concordat.DefaultAutoRejoinInterval),
		ExitStateAction:      string(concordat.ReadOnly),
		LogStallTimeout:      duration(concordat.DefaultLogStallTimeout),

		HistoryItems:            concordat.DefaultHistoryItems,
		HistorySize:             concordat.DefaultHistoryBytes,
		RangeWrites:             concordat.DefaultRangeWrites,
		OutcomeTransactions:     concordat.DefaultOutcomeTransactions,
		GTIDAssignmentBlockSize: concordat.DefaultGTIDAssignmentBlockSize,
		DefaultConsistency:      level(concordat.Eventual),
		StateCheckInterval:      concordat.DefaultStateCheckInterval,
		StateCheckSize:          concordat.DefaultStateCheckBytes,

		LeaveTimeout: duration(10 * time.Second),
		OnSIGTERM:    onSIGTERMLeave,
		LogLevel:     "info",
		LogFormat:    "text",
	}
	s.foundFlow()
	return s
}

// flags makes the flags that set s, whose present contents are the defaults.
func (s *nodeSettings) flags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("node", pflag.ContinueOnError)
	fs.SortFlags = false
	text := func(p *string, name, usage string) { fs.StringVar(p, name, *p, usage) }
	number := func(p *int, name, usage string) { fs.IntVar(p, name, *p, usage) }

	text(&s.Group, "group", "name of the group, a `UUID`, the same on every member")
	text(&s.Dir, "dir", "`directory` of the member's log and data")
	fs.BoolVar(&s.Bootstrap, "bootstrap", s.Bootstrap, "found the group with this member; once, on one member, with a new directory")
	fs.StringSliceVar(&s.Seeds, "seeds", s.Seeds, "`addresses` of members to ask when this one has to join")
	text(&s.Member, "member", "`UUID` of the member; drawn when the directory is new and this is empty")
	number(&s.Weight, "weight", "rank in primary elections, 0 to 100")
	text(&s.Listen, "listen", "`host:port` for other members, the same at each start; port 0 lets the system choose")
	text(&s.Advertise, "advertise", "`host:port` that other members are told; needed when --listen is all addresses of the host")
	text(&s.ClientListen, "client-listen", "`host:port` for clients; port 0 lets the system choose")
	text(&s.ClientAddress, "client-address", "`host:port` that the group tells clients of this member; empty: where it listens for them")

	text(&s.TLSCert, "tls-cert", "PEM `file`: certificate towards other members, for server and client authentication")
	text(&s.TLSKey, "tls-key", "PEM `file`: its private key")
	text(&s.TLSCA, "tls-ca", "PEM `file`: authorities of the members' certificates; without these three, plaintext")
	text(&s.ClientTLSCert, "client-tls-cert", "PEM `file`: certificate towards clients; without it, plaintext")
	text(&s.ClientTLSKey, "client-tls-key", "PEM `file`: its private key")
	text(&s.ClientTLSCA, "client-tls-ca", "PEM `file`: authorities of clients; with it a client needs a certificate")

	fs.Var(&s.CacheSize, "cache-size", "block cache of the store")
	number(&s.MaxPendingCommits, "max-pending-commits", "commits that may wait for their verdict at a time; further ones wait for a place")
	fs.Var(&s.MaxPendingSize, "max-pending-size", "transactions that may wait for their verdict at a time; further ones wait for a place")
	fs.Var(&s.CheckpointSize, "checkpoint-size", "log between two checkpoints; three times as much is kept on disk, ten times while a member catches up")
	fs.BoolVar(&s.WarmLog, "warm-log", s.WarmLog, "write the log's first 200 MiB at the start, so that each fsync later costs less")
	fs.Var(&s.ApplyQueueSize, "apply-queue-size", "what may wait for the store")
	number(&s.ApplyWorkers, "apply-workers", "goroutines that build what the store makes visible; 0: as many as run at a time, at most 4")
	fs.Var(&s.TickInterval, "tick-interval", "heartbeat, and unit of the group's clock; the same on all members")
	number(&s.ElectionTicks, "election-ticks", "ticks without a leader until an election")

	s.changeFlags(fs)
	fs.Var(&s.Consistency, "consistency", "what transactions of this member see that choose no `level`: EVENTUAL, BEFORE_ON_PRIMARY_FAILOVER, BEFORE, AFTER or BEFORE_AND_AFTER; empty: the group's")
	fs.Var(&s.FailoverTimeout, "failover-timeout", "a primary silent for that long is replaced by another one; the same on all members")

	fs.Var(&s.MemberSuspectTimeout, "member-suspect-timeout", "a member not heard for that long is UNREACHABLE")
	fs.Var(&s.MemberExpelTimeout, "member-expel-timeout", "and is expelled that much later; the same on all members")
	fs.Var(&s.UnreachableMajorityTimeout, "unreachable-majority-timeout", "give up the place in the group after that long without a majority; 0s waits for ever")
	number(&s.AutoRejoinTries, "autorejoin-tries", "how often a member that was expelled, or gave up, tries to come back")
	fs.Var(&s.AutoRejoinInterval, "autorejoin-interval", "pause between two of these tries")
	text(&s.ExitStateAction, "exit-state-action", "what a member does that does not come back, `READ_ONLY|OFFLINE_MODE|ABORT`: serve readers, serve nobody, or end")
	fs.Var(&s.LogStallTimeout, "log-stall-timeout", "a leader whose log takes that long to write gives up the lead")
	fs.StringSliceVar(&s.IPAllowlist, "ip-allowlist", s.IPAllowlist, "`addresses` or networks, as in 10.0.0.0/8, from which members may connect; empty: from everywhere")
	fs.Var(&s.CloneRate, "clone-rate", "bytes per second at which this member copies another one's state; 0B: no bound")
	text(&s.Donor, "donor", "`member`, by UUID or address, to copy the state from if that has to be; empty: the least busy one")
	text(&s.Replaces, "replaces", "`UUID` of a dead member whose place this new one takes")

	fs.BoolVar(&s.FlowControlExempt, "flow-control-exempt", s.FlowControlExempt, "this member may fall behind: writers are not slowed for its sake")

	s.foundingFlags(fs)

	fs.Var(&s.StartTimeout, "start-timeout", "give up when not ONLINE by then; 0s waits for ever")
	fs.Var(&s.LeaveTimeout, "leave-timeout", "stop without leaving when the group does not let go by then")
	text(&s.OnSIGTERM, "on-sigterm", "what SIGTERM does, `leave|stop`: leave the group, or stop and keep the place in it")
	text(&s.LogLevel, "log-level", "`level` of what is logged: debug, info, warn or error")
	text(&s.LogFormat, "log-format", "`text|json`; the log goes to standard error")
	fs.BoolVar(&s.JSON, "json", s.JSON, "print the line that says that the node is ready as JSON")
	return fs
}

// foundingFlags makes those of what a founder gives its group.
func (s *nodeSettings) foundingFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&s.SinglePrimary, "single-primary", s.SinglePrimary, "found the group in single-primary mode: one member writes (default)")
	fs.BoolVar(&s.MultiPrimary, "multi-primary", s.MultiPrimary, "found the group in multi-primary mode: all members write")
	fs.IntVar(&s.HistoryItems, "history-items", s.HistoryItems, "with --bootstrap: what the certification history can hold; a row or a transaction is an item")
	fs.Var(&s.HistorySize, "history-size", "with --bootstrap: memory that the certification history can take")
	fs.IntVar(&s.RangeWrites, "range-writes", s.RangeWrites, "with --bootstrap: written keys remembered to judge the scans of serializable transactions")
	fs.IntVar(&s.OutcomeTransactions, "outcome-transactions", s.OutcomeTransactions, "with --bootstrap: transactions remembered by their ids")
	fs.Uint64Var(&s.GTIDAssignmentBlockSize, "gtid-assignment-block-size", s.GTIDAssignmentBlockSize, "with --bootstrap: consecutive GTIDs reserved for a member at a time")
	fs.Var(&s.DefaultConsistency, "default-consistency", "with --bootstrap: `level` of transactions for which neither they nor their member choose one")
	fs.BoolVar(&s.PreferMostUpdated, "prefer-most-updated", s.PreferMostUpdated, "with --bootstrap: elect a primary that has applied most of the log, before weights count")
	fs.IntVar(&s.StateCheckInterval, "state-check-interval", s.StateCheckInterval, "with --bootstrap: transactions between two comparisons of a slice of the members' data; -1 for none")
	fs.Var(&s.StateCheckSize, "state-check-size", "with --bootstrap: about how much data each compares")
	fs.Var(&s.TransactionSizeLimit, "transaction-size-limit", "with --bootstrap: largest transaction, less than 2GiB")
	s.flowFlags(fs)
}

// changeFlags makes those of the change stream.
func (s *nodeSettings) changeFlags(fs *pflag.FlagSet) {
	fs.Var(&s.ChangeRetention, "change-retention", "changes kept for concordat changes, about as many bytes of keys and values; 0B keeps none, and forgets those that there are")
	fs.Var(&s.ChangeRetentionAge, "change-retention-age", "and for how long at most; 0s: no bound")
	fs.BoolVar(&s.ChangeOldValues, "change-old-values", s.ChangeOldValues, "keep the values before each change too; costs a read for each row")
	fs.IntVar(&s.MaxChangeConsumers, "max-change-consumers", s.MaxChangeConsumers, "streams of changes at a time")
}

// resolve returns the settings of a command line whose flags were parsed.
// Getenv is os.LookupEnv but in tests.
func resolve(flags *pflag.FlagSet, file string, getenv func(string) (string, bool)) (nodeSettings, error) {
	s := defaultSettings()
	if file != "" {
		if err := s.readFile(file); err != nil {
			return s, err
		}
	}
	var errs []error
	resolved := s.flags()
	resolved.VisitAll(func(f *pflag.Flag) {
		given := flags.Lookup(f.Name)
		if given.Changed {
			_ = resolved.Set(f.Name, flagText(given)) // it was parsed before
			return
		}
		name := "CONCORDAT_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value, ok := getenv(name); ok {
			if err := resolved.Set(f.Name, value); err != nil {
				errs = append(errs, usagef("environment: %s: %w", name, err))
			}
		}
	})
	return s, errors.Join(append(errs, s.check()...)...)
}

// flagText returns the text that sets a flag to what f has.
func flagText(f *pflag.Flag) string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return strings.Join(list.GetSlice(), ",")
	}
	return f.Value.String()
}

func (s *nodeSettings) readFile(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return usagef("configuration: %w", err)
	}
	err = toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(s)
	var unknown *toml.StrictMissingError
	var malformed *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		var errs []error
		for _, e := range unknown.Errors {
			line, column := e.Position()
			errs = append(errs, usagef("%s:%d:%d: there is no setting %q; concordat node --help lists them",
				file, line, column, strings.Join(e.Key(), ".")))
		}
		return errors.Join(errs...)
	case errors.As(err, &malformed):
		line, column := malformed.Position()
		return usagef("%s:%d:%d: %s", file, line, column, strings.TrimPrefix(malformed.Error(), "toml: "))
	case err != nil:
		return usagef("%s: %w", file, err)
	}
	return nil
}

// check reports what the library does not check.
func (s *nodeSettings) check() []error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, usagef(format, args...))
		}
	}
	need(s.Weight >= 0, "weight %d is negative; it ranks members from 0 to 100", s.Weight)
	need(!s.SinglePrimary || !s.MultiPrimary, "single-primary and multi-primary exclude each other; choose")
	need(s.AutoRejoinTries >= 0, "autorejoin-tries %d is negative; 0 means never", s.AutoRejoinTries)
	whole := s.TLSCert != "" && s.TLSKey != "" && s.TLSCA != ""
	need(whole || s.TLSCert+s.TLSKey+s.TLSCA == "", "tls-cert, tls-key and tls-ca belong together: give all three or none")
	need((s.ClientTLSCert == "") == (s.ClientTLSKey == ""), "client-tls-cert and client-tls-key belong together: give both or none")
	need(s.ClientTLSCA == "" || s.ClientTLSCert != "", "client-tls-ca asks clients for certificates, which needs client-tls-cert and client-tls-key")
	need(s.OnSIGTERM == onSIGTERMLeave || s.OnSIGTERM == onSIGTERMStop, "on-sigterm is %q; it can be leave or stop", s.OnSIGTERM)
	need(s.LogFormat == "text" || s.LogFormat == "json", "log-format is %q; it can be text or json", s.LogFormat)
	var level slog.Level
	need(level.UnmarshalText([]byte(s.LogLevel)) == nil, "log-level is %q; it can be debug, info, warn or error", s.LogLevel)
	need(s.ClientListen != s.Listen || strings.HasSuffix(s.Listen, ":0"), "listen and client-listen are both %s; members and clients need an address each", s.Listen)
	_, err := s.flowControl()
	need(err == nil, "flow control: %v", err)
	if err := s.config().Validate(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// config returns the library's configuration, without what has to be loaded.
func (s *nodeSettings) config() concordat.Config {
	flow, _ := s.flowControl() // check has looked at it
	return concordat.Config{
		Group: s.Group, Dir: s.Dir, Listen: s.Listen, Advertise: s.Advertise,
		Seeds: s.Seeds, Bootstrap: s.Bootstrap, Member: s.Member, ClientAddress: s.ClientAddress,
		MemberWeight:      cmp.Or(s.Weight, -1), // 0 would mean the default there
		CacheBytes:        int64(s.CacheSize),
		MaxPendingCommits: s.MaxPendingCommits,
		MaxPendingBytes:   int(s.MaxPendingSize),
		CheckpointBytes:   int(s.CheckpointSize),
		WarmLog:           s.WarmLog,
		ApplyQueueBytes:   int(s.ApplyQueueSize),
		ApplyWorkers:      s.ApplyWorkers,
		TickInterval:      time.Duration(s.TickInterval),
		ElectionTicks:     s.ElectionTicks,

		ChangeRetentionBytes: int64(s.ChangeRetention),
		ChangeRetentionAge:   time.Duration(s.ChangeRetentionAge),
		ChangeOldValues:      s.ChangeOldValues,
		MaxChangeConsumers:   s.MaxChangeConsumers,

		Consistency:     concordat.Consistency(s.Consistency),
		FailoverTimeout: time.Duration(s.FailoverTimeout),

		MemberSuspectTimeout:       time.Duration(s.MemberSuspectTimeout),
		MemberExpelTimeout:         time.Duration(cmp.Or(s.MemberExpelTimeout, -1)), // 0 is at once
		UnreachableMajorityTimeout: time.Duration(s.UnreachableMajorityTimeout),
		AutoRejoinTries:            cmp.Or(s.AutoRejoinTries, -1), // 0 is never
		AutoRejoinInterval:         time.Duration(s.AutoRejoinInterval),
		ExitStateAction:            exitStateAction(s.ExitStateAction),
		LogStallTimeout:            time.Duration(s.LogStallTimeout),
		IPAllowlist:                s.IPAllowlist,
		CloneRate:                  int64(s.CloneRate),
		Donor:                      s.Donor,
		Replaces:                   s.Replaces,
		FlowControlExempt:          s.FlowControlExempt,

		FoundingMode: s.mode(),
		Founding: concordat.GroupSettings{
			HistoryItems: s.HistoryItems, HistoryBytes: int(s.HistorySize), RangeWrites: s.RangeWrites,
			OutcomeTransactions: s.OutcomeTransactions, GTIDAssignmentBlockSize: s.GTIDAssignmentBlockSize,
			Consistency: concordat.Consistency(s.DefaultConsistency), PreferMostUpdated: s.PreferMostUpdated,
			StateCheckInterval: s.StateCheckInterval, StateCheckBytes: int(s.StateCheckSize),
			TransactionSizeLimit: int(s.TransactionSizeLimit),
			FlowControl:          flow,
		},
	}
}

// mode is that of a new group, 0 for the library's default.
func (s *nodeSettings) mode() concordat.Mode {
	switch {
	case s.SinglePrimary:
		return concordat.SinglePrimary
	case s.MultiPrimary:
		return concordat.MultiPrimary
	}
	return 0
}

// exitStateAction takes abort and offline-mode for ABORT and OFFLINE_MODE.
func exitStateAction(text string) concordat.ExitStateAction {
	return concordat.ExitStateAction(strings.ReplaceAll(strings.ToUpper(text), "-", "_"))
}

func (s *nodeSettings) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // check has seen it
	options := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
