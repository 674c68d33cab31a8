package flowcontrol

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// vector reads a line of testdata/quota.txt.
func vector(t *testing.T, line string) (s Settings, quota, used, want int64, records []record) {
	t.Helper()
	inputs, result, _ := strings.Cut(line, " = ")
	parts := strings.Split(inputs, " | ")
	if len(parts) != 3 {
		t.Fatalf("%q has %d parts", line, len(parts))
	}
	scan := func(text, format string, to ...any) {
		if _, err := fmt.Sscanf(text, format, to...); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	scan(parts[0], "%d %d %d %d %d %d %d %d", &s.CertifierThreshold, &s.ApplierThreshold, &s.HoldPercent, &s.ReleasePercent,
		&s.MemberQuotaPercent, &s.MinQuota, &s.MinRecoveryQuota, &s.MaxQuota)
	scan(parts[1], "%d %d", &quota, &used)
	scan(result, "%d", &want)
	for m := range strings.SplitSeq(strings.TrimSpace(parts[2]), ";") {
		if m == "" {
			continue
		}
		var r record
		scan(m, "%d,%d,%d,%d,%d", &r.certified, &r.applied, &r.local, &r.waitingCertify, &r.waitingApplier)
		records = append(records, r)
	}
	return s, quota, used, want, records
}

func TestQuotaVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/quota.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		cases++
		s, quota, used, want, records := vector(t, line)
		if got := s.quotaAfter(quota, used, records); got != want {
			t.Errorf("%s\n\tgives %d", line, got)
		}
	}
	if cases < 70 {
		t.Errorf("%d cases", cases)
	}
}

// TestQuotaReference has the formula do what it is known for: 64 clients that ask
// for 25,000 transactions a second, an applier that does 5,000, and the ten periods
// after a start in which Group Replication knows nobody. In 100 periods the group
// does 64 % of what its applier could with the default threshold, and 23 % with one
// of 500.
func TestQuotaReference(t *testing.T) {
	for _, c := range []struct{ threshold, least, most, lowest int }{
		{25000, 63, 66, 1125},
		{500, 22, 25, 65},
	} {
		s := Defaults()
		s.ApplierThreshold = c.threshold
		periods := quotaPeriods(&s)
		total, lowest := 0, periods[50]
		for _, n := range periods[9:] {
			total += n
			lowest = min(lowest, n)
		}
		if percent := total / (50 * (len(periods) - 9)); percent < c.least || percent > c.most {
			t.Errorf("threshold %d: %d %% of what the applier could do", c.threshold, percent)
		}
		if lowest != c.lowest {
			t.Errorf("threshold %d: no period below %d, want %d", c.threshold, lowest, c.lowest)
		}
	}
}

// quotaPeriods is how many transactions commit in each of 100 periods.
func quotaPeriods(s *Settings) (committed []int) {
	const clients, offered, capacity = 64, 25000, 5000
	quota, waiting := int64(0), int64(0)
	for period := range 100 {
		now, used := int64(offered), int64(offered)
		if quota > 0 && offered > quota {
			used = quota + clients // who waits is counted, and goes when the period ends
			now = used
		}
		applied := min(waiting, capacity)
		waiting += now - applied
		committed = append(committed, int(now))
		records := []record{{certified: now, applied: 0, local: now}, {certified: now, applied: applied, waitingApplier: waiting}}
		if period < 10 {
			records = nil
		}
		quota = s.quotaAfter(quota, used, records)
	}
	return committed
}

// TestQuotaUnknown: a member that does nothing says nothing of what could be done.
func TestQuotaUnknown(t *testing.T) {
	c, s := NewController(), Defaults()
	s.Mode = ModeQuota
	in := &Input{Elapsed: time.Second, Self: 1, Settings: s, Members: []Member{
		{ID: 1, Sample: Sample{}}, {ID: 2, Sample: Sample{WaitingRemote: 30000}},
	}}
	c.Step(in)
	if d := c.Step(in); !d.Throttled || d.Quota != 1125 || d.Limiting != 2 {
		t.Errorf("with nothing known the quota is %+v, want the floor of 1125, for member 2", d)
	}
	in.Members[1].Sample.Exempt = true
	if d := c.Step(in); d.Quota != 1125*3/2 {
		t.Errorf("with the slow one exempt the quota is %+v, want it released", d)
	}
}
