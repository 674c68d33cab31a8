package gcs

import (
	"bytes"
	"fmt"

	"github.com/concordatdb/concordat/gtid"
)

// The flags of a report.
const (
	flagStalled    = 1
	flagRecovering = 2
	flagUnready    = 4
	allFlags       = flagStalled | flagRecovering | flagUnready
)

func appendReport(b []byte, r *Report) ([]byte, error) {
	if r == nil {
		return b, fmt.Errorf("%w: a report that says nothing", ErrMessage)
	}
	flags := uint64(0)
	if r.Stalled {
		flags |= flagStalled
	}
	if r.Recovering {
		flags |= flagRecovering
	}
	if r.Unready {
		flags |= flagUnready
	}
	b = appendUvarints(b, r.Delivered, r.Applied, r.Snapshot, r.Exports, flags, r.Epoch, r.Fresh, r.Session)
	before := len(b)
	b, err := r.Executed.AppendBinary(b)
	if err == nil && len(b)-before > MaxReportSet {
		b, err = gtid.Set{}.AppendBinary(b[:before])
	}
	if err != nil {
		return b, fmt.Errorf("%w: report: %w", ErrMessage, err)
	}
	b = appendUvarints(b, uint64(len(r.Hears)))
	for _, h := range r.Hears {
		b = appendUvarints(b, h.RaftID, h.Ticks)
	}
	if len(r.Stats) > MaxReportStats {
		return b, fmt.Errorf("%w: statistics of %d bytes in a report", ErrMessage, len(r.Stats))
	}
	return append(appendUvarints(b, uint64(len(r.Stats))), r.Stats...), nil
}

// decodeReport accepts what appendReport makes of some member's report, and
// nothing else.
func decodeReport(b []byte) (*Report, error) {
	r := &Report{}
	var flags, count uint64
	rest, err := readUvarints(b, &r.Delivered, &r.Applied, &r.Snapshot, &r.Exports, &flags, &r.Epoch, &r.Fresh, &r.Session)
	if err != nil {
		return nil, err
	}
	if flags > allFlags {
		return nil, fmt.Errorf("%w: flags %#x of a report are not known to this version", ErrMessage, flags)
	}
	if r.Fresh > NeverHeard {
		return nil, fmt.Errorf("%w: a report of a member that was up to date %d ticks ago", ErrMessage, r.Fresh)
	}
	r.Stalled, r.Recovering, r.Unready = flags&flagStalled != 0, flags&flagRecovering != 0, flags&flagUnready != 0
	before := len(rest)
	if r.Executed, rest, err = gtid.DecodeSet(rest); err != nil {
		return nil, fmt.Errorf("%w: report: %w", ErrMessage, err)
	}
	if size := before - len(rest); size > MaxReportSet {
		return nil, fmt.Errorf("%w: a set of %d bytes in a report", ErrMessage, size)
	}
	if rest, err = readUvarints(rest, &count); err != nil {
		return nil, err
	}
	if count > MaxMembers {
		return nil, fmt.Errorf("%w: a report about %d members", ErrMessage, count)
	}
	last := uint64(0)
	for range count {
		var h Hearing
		if rest, err = readUvarints(rest, &h.RaftID, &h.Ticks); err != nil {
			return nil, err
		}
		if h.RaftID <= last || h.Ticks > NeverHeard {
			return nil, fmt.Errorf("%w: member %d after %d in a report, heard %d ticks ago", ErrMessage, h.RaftID, last, h.Ticks)
		}
		last = h.RaftID
		r.Hears = append(r.Hears, h)
	}
	if rest, err = readUvarints(rest, &count); err != nil {
		return nil, err
	}
	if count > MaxReportStats || count != uint64(len(rest)) {
		return nil, fmt.Errorf("%w: statistics of %d bytes in a report, %d are left", ErrMessage, count, len(rest))
	}
	if count > 0 {
		r.Stats = bytes.Clone(rest) // what it came with need not stay for it
	}
	return r, nil
}
