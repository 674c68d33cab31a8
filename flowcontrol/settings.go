package flowcontrol

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// ErrSettings marks settings that cannot be a group's.
var ErrSettings = errors.New("flowcontrol: invalid settings")

// Mode says by which law the group is slowed.
type Mode byte

// The modes.
const (
	// ModeAdaptive keeps the backlog of the slowest member at a target in time.
	ModeAdaptive Mode = 1
	// ModeQuota is the formula of Group Replication, with its variables.
	ModeQuota Mode = 2
	// ModeDisabled slows nobody.
	ModeDisabled Mode = 3
)

var modeNames = [...]string{ModeAdaptive: "ADAPTIVE", ModeQuota: "QUOTA", ModeDisabled: "DISABLED"}

// Valid reports whether m is a mode.
func (m Mode) Valid() bool { return m >= ModeAdaptive && m <= ModeDisabled }

// String returns the mode as Group Replication would write it.
func (m Mode) String() string {
	if !m.Valid() {
		return fmt.Sprintf("mode %d", byte(m))
	}
	return modeNames[m]
}

// ParseMode is the reverse of String.
func ParseMode(text string) (Mode, error) {
	for m := ModeAdaptive; m <= ModeDisabled; m++ {
		if modeNames[m] == text {
			return m, nil
		}
	}
	return 0, fmt.Errorf("%w: %q is no mode: there are ADAPTIVE, QUOTA and DISABLED", ErrSettings, text)
}

// Scope says who may slow the group in ModeAdaptive.
type Scope byte

// The scopes.
const (
	// ScopeAll: the slowest member limits the group.
	ScopeAll Scope = 1
	// ScopeMajority: a slow minority is passed over, and may fall behind.
	ScopeMajority Scope = 2
)

var scopeNames = [...]string{ScopeAll: "ALL", ScopeMajority: "MAJORITY"}

// Valid reports whether s is a scope.
func (s Scope) Valid() bool { return s == ScopeAll || s == ScopeMajority }

// String returns the scope as settings write it.
func (s Scope) String() string {
	if !s.Valid() {
		return fmt.Sprintf("scope %d", byte(s))
	}
	return scopeNames[s]
}

// ParseScope is the reverse of String.
func ParseScope(text string) (Scope, error) {
	for s := ScopeAll; s <= ScopeMajority; s++ {
		if scopeNames[s] == text {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%w: %q is no scope: there are ALL and MAJORITY", ErrSettings, text)
}

// Settings are what a group has agreed on. Those from Period on count in ModeQuota
// only, and have the names, defaults and bounds of the variables
// group_replication_flow_control_….
type Settings struct {
	Mode  Mode
	Scope Scope
	// TargetLag is how long what is ordered may wait for the slowest engine. The
	// group is slowed from half of it on, and settles at it. Whole milliseconds.
	TargetLag time.Duration
	// HardLag is how far behind the limiting member may be when nobody writes any
	// more until it is below TargetLag again; 0 for no such bound. Whole milliseconds.
	HardLag time.Duration
	// Floor is what the group may write in any case, short of HardLag, in
	// transactions a second.
	Floor int

	Period             int // seconds
	CertifierThreshold int // log entries that are not judged yet
	ApplierThreshold   int // transactions that are not visible yet
	MinQuota           int
	MinRecoveryQuota   int
	MaxQuota           int
	MemberQuotaPercent int
	HoldPercent        int
	ReleasePercent     int
}

// Defaults returns the settings of a group that has chosen none.
func Defaults() Settings {
	return Settings{
		Mode: ModeAdaptive, Scope: ScopeAll, TargetLag: 2 * time.Second, Floor: 100,
		Period: 1, CertifierThreshold: 25000, ApplierThreshold: 25000, HoldPercent: 10, ReleasePercent: 50,
	}
}

// The bounds of settings.
const (
	MinTargetLag = 100 * time.Millisecond
	MaxLag       = 24 * time.Hour
	MaxFloor     = 1_000_000
)

// bounded is a number and what it may be.
type bounded struct {
	name        string
	value       int
	least, most int
	underMax    bool // and not above MaxQuota, if that is set
}

func (s *Settings) numbers() [10]bounded {
	const quota = math.MaxInt32
	return [...]bounded{
		{"Floor", s.Floor, 1, MaxFloor, false},
		{"Period", s.Period, 1, 60, false},
		{"CertifierThreshold", s.CertifierThreshold, 0, quota, false},
		{"ApplierThreshold", s.ApplierThreshold, 0, quota, false},
		{"MinQuota", s.MinQuota, 0, quota, true},
		{"MinRecoveryQuota", s.MinRecoveryQuota, 0, quota, true},
		{"MaxQuota", s.MaxQuota, 0, quota, false},
		{"MemberQuotaPercent", s.MemberQuotaPercent, 0, 100, false},
		{"HoldPercent", s.HoldPercent, 0, 100, false},
		{"ReleasePercent", s.ReleasePercent, 0, 1000, false},
	}
}

// Check reports the first field that is out of its bounds.
func (s *Settings) Check() error {
	if !s.Mode.Valid() || !s.Scope.Valid() {
		return fmt.Errorf("%w: %v and %v are no mode and scope", ErrSettings, s.Mode, s.Scope)
	}
	if s.TargetLag < MinTargetLag || s.TargetLag > MaxLag || s.TargetLag%time.Millisecond != 0 {
		return fmt.Errorf("%w: TargetLag is %v, it must be between %v and %v, in milliseconds", ErrSettings, s.TargetLag, MinTargetLag, MaxLag)
	}
	if h := s.HardLag; h != 0 && (h < 2*s.TargetLag || h > MaxLag || h%time.Millisecond != 0) {
		return fmt.Errorf("%w: HardLag is %v, it must be 0 or between twice the TargetLag of %v and %v, in milliseconds", ErrSettings, h, s.TargetLag, MaxLag)
	}
	for _, f := range s.numbers() {
		if f.value < f.least || f.value > f.most {
			return fmt.Errorf("%w: %s is %d, it must be between %d and %d", ErrSettings, f.name, f.value, f.least, f.most)
		}
		if f.underMax && s.MaxQuota > 0 && f.value > s.MaxQuota {
			return fmt.Errorf("%w: %s is %d, above the MaxQuota of %d", ErrSettings, f.name, f.value, s.MaxQuota)
		}
	}
	return nil
}

// NumFields is how many numbers settings are encoded as.
const NumFields = 14

// Fields lists the settings in the order of their encoding, times in milliseconds.
func (s *Settings) Fields() [NumFields]uint64 {
	return [...]uint64{
		uint64(s.Mode), uint64(s.Scope), uint64(s.TargetLag / time.Millisecond), uint64(s.HardLag / time.Millisecond), uint64(s.Floor),
		uint64(s.Period), uint64(s.CertifierThreshold), uint64(s.ApplierThreshold),
		uint64(s.MinQuota), uint64(s.MinRecoveryQuota), uint64(s.MaxQuota),
		uint64(s.MemberQuotaPercent), uint64(s.HoldPercent), uint64(s.ReleasePercent),
	}
}

// FromFields is the reverse of Fields. What it returns has passed Check, unless all
// fields are 0: those are the zero Settings, of a group that has none yet.
func FromFields(f [NumFields]uint64) (Settings, error) {
	if f == ([NumFields]uint64{}) {
		return Settings{}, nil
	}
	for i, v := range f {
		if v > math.MaxInt32 {
			return Settings{}, fmt.Errorf("%w: field %d is %d", ErrSettings, i, v)
		}
	}
	if f[0] > uint64(ModeDisabled) || f[1] > uint64(ScopeMajority) {
		return Settings{}, fmt.Errorf("%w: %d and %d are no mode and scope", ErrSettings, f[0], f[1])
	}
	s := Settings{
		Mode: Mode(f[0]), Scope: Scope(f[1]),
		TargetLag: time.Duration(f[2]) * time.Millisecond, HardLag: time.Duration(f[3]) * time.Millisecond, Floor: int(f[4]),
		Period: int(f[5]), CertifierThreshold: int(f[6]), ApplierThreshold: int(f[7]),
		MinQuota: int(f[8]), MinRecoveryQuota: int(f[9]), MaxQuota: int(f[10]),
		MemberQuotaPercent: int(f[11]), HoldPercent: int(f[12]), ReleasePercent: int(f[13]),
	}
	err := s.Check()
	return s, err
}
