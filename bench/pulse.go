package bench

import (
	"context"
	"errors"
	"time"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// pulse is when a client's writes were answered.
type pulse struct{ beats []time.Time }

// write writes one row after the other until ctx ends. A write that fails is
// none.
func (p *pulse) write(ctx context.Context, c *server.Client, key []byte) {
	const patience = 10 * time.Second // for the majority, if there is none
	value := valueOf(newRandom(0), smallValue)
	for ctx.Err() == nil {
		trying, cancel := context.WithTimeout(ctx, patience)
		_, err := c.Put(trying, &kvpb.PutRequest{Table: wireTable, Key: key, Value: value})
		cancel()
		if err == nil {
			p.beats = append(p.beats, time.Now())
		}
	}
}

// longest returns the longest time without a beat that ended between two
// moments, and began there or before.
func (p *pulse) longest(from, to time.Time) (gap time.Duration) {
	last := from
	for _, b := range p.beats {
		if b.After(to) {
			break
		}
		if b.After(from) {
			gap = max(gap, b.Sub(last))
		}
		last = b
	}
	return gap
}

// stilled returns the longest time without a beat of one of them, after something
// has struck and before. It is an error if one has none in the end, once all should
// be well again.
func stilled(pulses []*pulse, began, struck, over time.Time, end time.Duration) (gap, quiet time.Duration, err error) {
	for _, p := range pulses {
		if n := len(p.beats); n == 0 || p.beats[n-1].Before(over.Add(-end)) {
			err = errors.Join(err, errors.New("a writer does not commit any more"))
		}
		gap, quiet = max(gap, p.longest(struck, over)), max(quiet, p.longest(began, struck))
	}
	return gap, quiet, err
}
