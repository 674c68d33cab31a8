package flowcontrol

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSettings(t *testing.T) {
	good := Defaults()
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Settings){ // order-free: each is a test of its own
		"no mode":               func(s *Settings) { s.Mode = 0 },
		"no scope":              func(s *Settings) { s.Scope = 3 },
		"target too short":      func(s *Settings) { s.TargetLag = time.Millisecond },
		"target too fine":       func(s *Settings) { s.TargetLag += time.Microsecond },
		"hard below the target": func(s *Settings) { s.HardLag = s.TargetLag },
		"no floor":              func(s *Settings) { s.Floor = 0 },
		"no period":             func(s *Settings) { s.Period = 0 },
		"period too long":       func(s *Settings) { s.Period = 61 },
		"negative threshold":    func(s *Settings) { s.ApplierThreshold = -1 },
		"minimum above maximum": func(s *Settings) { s.MinQuota, s.MaxQuota = 2, 1 },
		"recovery's as well":    func(s *Settings) { s.MinRecoveryQuota, s.MaxQuota = 2, 1 },
		"hold above 100":        func(s *Settings) { s.HoldPercent = 101 },
		"release above 1000":    func(s *Settings) { s.ReleasePercent = 1001 },
	} {
		s := good
		change(&s)
		if err := s.Check(); !errors.Is(err, ErrSettings) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := FromFields(s.Fields()); err == nil && name != "target too fine" {
			t.Errorf("%s passes from fields", name)
		}
	}
	if s, err := FromFields(good.Fields()); err != nil || s != good {
		t.Errorf("%+v comes back as %+v: %v", good, s, err)
	}
	if s, err := FromFields([NumFields]uint64{}); err != nil || s != (Settings{}) {
		t.Errorf("nothing comes back as %+v: %v", s, err)
	}
	if _, err := FromFields([NumFields]uint64{4: 1 << 63}); err == nil {
		t.Error("a number that no int holds passes")
	}
}

func TestNames(t *testing.T) {
	for m := ModeAdaptive; m <= ModeDisabled; m++ {
		if back, err := ParseMode(m.String()); err != nil || back != m {
			t.Errorf("%v comes back as %v: %v", m, back, err)
		}
	}
	for s := ScopeAll; s <= ScopeMajority; s++ {
		if back, err := ParseScope(s.String()); err != nil || back != s {
			t.Errorf("%v comes back as %v: %v", s, back, err)
		}
	}
	for _, text := range []string{"", " ", "quota", "-1", "2"} {
		if _, err := ParseMode(text); err == nil {
			t.Errorf("%q is a mode", text)
		}
		if _, err := ParseScope(text); err == nil {
			t.Errorf("%q is a scope", text)
		}
	}
}

func TestSampleComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Sample{Exempt: rapid.Bool().Draw(t, "exempt"), Recovering: rapid.Bool().Draw(t, "recovering")}
		for _, f := range s.numbers() {
			*f = rapid.Uint64().Draw(t, "number")
		}
		b := s.Append(nil)
		if len(b) > 151 {
			t.Fatalf("%d bytes", len(b))
		}
		if back, err := DecodeSample(b); err != nil || back != s {
			t.Fatalf("%+v comes back as %+v: %v", s, back, err)
		}
	})
}

func FuzzDecodeSample(f *testing.F) {
	f.Add((&Sample{}).Append(nil))
	f.Add((&Sample{Certified: 1 << 40, Lag: 7, Exempt: true}).Append(nil))
	f.Add([]byte{})
	f.Add([]byte{9})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSample(b)
		if err != nil {
			if !errors.Is(err, ErrSample) {
				t.Errorf("%x: %v", b, err)
			}
			return
		}
		if again := s.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("%x is not what %+v is encoded as, %x", b, s, again)
		}
	})
}

func BenchmarkAsk(b *testing.B) {
	a := NewAdmission()
	a.Decide(0, adaptive(1<<50))
	b.ReportAllocs()
	id := uint64(0)
	for b.Loop() {
		id++
		_, p := a.Ask(time.Duration(id)*time.Microsecond, id, "", 1)
		a.Charge(p, 2000)
	}
}

func BenchmarkStep(b *testing.B) {
	c := NewController()
	in := &Input{Elapsed: 100 * time.Millisecond, Self: 1, Settings: Defaults()}
	for i := range uint64(9) {
		in.Members = append(in.Members, Member{ID: i + 1})
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Step(in)
	}
}
