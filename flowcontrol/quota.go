package flowcontrol

import "math"

// noLimit is what the formula takes for a capacity that it does not know.
const noLimit = math.MaxInt32

// record is what the formula knows of a member: what it did in the last period, and
// what waits there.
type record struct {
	certified, applied, local      int64
	waitingCertify, waitingApplier int64
}

// over reports whether a member holds the others up.
func (s *Settings) over(r *record) bool {
	return r.waitingCertify > int64(s.CertifierThreshold) || r.waitingApplier > int64(s.ApplierThreshold)
}

// quotaAfter is the quota of the next period, 0 for no limit, by the quota and the
// use of the one that ends. It is the formula of Group Replication, which truncates
// wherever it converts, in doubles as that does: hold_percent 90 of 1250 is 124.
func (s *Settings) quotaAfter(quota, used int64, records []record) int64 {
	debt := int64(0)
	if quota > 0 && used > quota {
		debt = used - quota
	}
	held := false
	for i := range records {
		held = held || s.over(&records[i])
	}
	var next int64
	if held {
		next = s.share(s.capacity(records), debt, records)
	} else {
		next = s.released(quota)
	}
	if m := int64(s.MaxQuota); m > 0 {
		if next <= 0 {
			next = m
		}
		next = min(next, m)
	}
	return next
}

// capacity is the least that anybody did who is over a threshold, and not more than
// anybody did, but not below the floor.
func (s *Settings) capacity(records []record) int64 {
	certifier, applier, safe := int64(noLimit), int64(noLimit), int64(noLimit)
	lagging := 0
	for i := range records {
		r := &records[i]
		if r.certified > 0 {
			if s.CertifierThreshold > 0 && r.waitingCertify > int64(s.CertifierThreshold) {
				certifier = min(certifier, r.certified)
			}
			safe = min(safe, r.certified)
		}
		if r.applied > 0 {
			if s.ApplierThreshold > 0 && r.waitingApplier > int64(s.ApplierThreshold) {
				applier = min(applier, r.applied)
				lagging++
			}
			safe = min(safe, r.applied)
		}
	}
	capacity := applier
	if certifier > 0 && certifier < applier {
		capacity = certifier
	}
	floor := int64(0.05 * float64(min(s.CertifierThreshold, s.ApplierThreshold)))
	if s.MinRecoveryQuota > 0 && lagging == 0 {
		floor = int64(s.MinRecoveryQuota)
	}
	if s.MinQuota > 0 {
		floor = int64(s.MinQuota)
	}
	return max(min(capacity, safe), floor)
}

// share is what one member gets of a capacity.
func (s *Settings) share(capacity, debt int64, records []record) int64 {
	hold := 1.0 - float64(s.HoldPercent)/100.0
	q := int64(float64(capacity) * hold)
	if m := int64(s.MaxQuota); m > 0 {
		q = min(q, m)
	}
	writers := int64(0)
	for i := range records {
		if records[i].local > 0 {
			writers++
		}
	}
	if writers > 1 {
		if s.MemberQuotaPercent == 0 {
			q /= writers
		} else {
			q = int64(float64(q) * (float64(s.MemberQuotaPercent) / 100.0))
		}
	}
	if q-debt > 1 {
		return q - debt
	}
	return 1
}

// released is the quota after a period in which nobody held the others up.
func (s *Settings) released(quota int64) int64 {
	release := 1.0 + float64(s.ReleasePercent)/100.0
	if quota <= 0 || s.ReleasePercent <= 0 || float64(quota)*release >= noLimit {
		return 0
	}
	return max(int64(float64(quota)*release), quota+1)
}
