package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// trio is a group of three processes, of which some come and go.
type trio struct {
	o       *FailureOptions
	dir     string
	log     int // CheckpointBytes
	members []*trioMember
}

type trioMember struct {
	uuid    string
	dir     string
	process NodeProcess // the last one, which may have ended
	client  *server.Client
	ended   bool
}

func (o *FailureOptions) found(ctx context.Context, dir string, log int) (_ *trio, err error) {
	g := &trio{o: o, dir: dir, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	for i := range Members {
		if _, err := g.add(ctx, fmt.Sprint("member", i+1)); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// add starts a new member.
func (g *trio) add(ctx context.Context, name string) (*trioMember, error) {
	o := MemberOptions{Dir: filepath.Join(g.dir, name), Mode: concordat.MultiPrimary, CheckpointBytes: g.log}
	if len(g.members) > 0 {
		o.Seed = g.members[0].process.MemberAddress()
	}
	m := &trioMember{dir: o.Dir}
	if err := m.start(ctx, g.o.Start, o); err != nil {
		return nil, err
	}
	g.members = append(g.members, m)
	return m, nil
}

// again starts a member's process once more, where it was.
func (g *trio) again(ctx context.Context, m *trioMember) error {
	return m.start(ctx, g.o.Start, MemberOptions{Dir: m.dir, Earlier: m.process, CheckpointBytes: g.log})
}

func (m *trioMember) start(ctx context.Context, start StartMember, o MemberOptions) error {
	p, err := start(ctx, o)
	if err != nil {
		return err
	}
	if m.client != nil {
		_ = m.client.Close() // of the process before
	}
	m.process, m.ended = p, false
	if m.client, err = server.Dial(p.ClientAddress(), nil); err != nil {
		return err
	}
	s, err := m.client.Status(ctx, &adminpb.StatusRequest{})
	m.uuid = s.GetMember()
	return err
}

func (m *trioMember) kill() error {
	m.ended = true
	return m.process.Stop()
}

func (g *trio) close() error {
	var errs []error
	for _, m := range g.members {
		if !m.ended {
			errs = append(errs, m.kill())
		}
		if m.client != nil {
			_ = m.client.Close() // its process is gone
		}
	}
	return errors.Join(errs...)
}

// leads waits until a member leads, and returns it and another one.
func (g *trio) leads(ctx context.Context) (leader, follower *trioMember, err error) {
	err = until(ctx, func() (bool, error) {
		s, err := g.members[0].client.Status(ctx, &adminpb.StatusRequest{})
		if err != nil {
			return false, err
		}
		leader, follower = nil, nil
		for _, m := range g.members {
			switch {
			case m.uuid == s.GetLeader():
				leader = m
			case follower == nil:
				follower = m
			}
		}
		return leader != nil, nil
	})
	return leader, follower, err
}

// gone waits until a member is in nobody's view.
func (g *trio) gone(ctx context.Context, m *trioMember) error {
	for _, other := range g.members {
		if other == m {
			continue
		}
		err := until(ctx, func() (bool, error) {
			s, err := other.client.Status(ctx, &adminpb.StatusRequest{})
			for _, in := range s.GetView().GetMembers() {
				if in.GetUuid() == m.uuid {
					return false, err
				}
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// until asks again and again, and gives up far beyond any time that it could
// take.
func until(ctx context.Context, holds func() (bool, error)) error {
	const interval, patience = 20 * time.Millisecond, time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		if err := pause(ctx, interval); err != nil {
			return err
		}
	}
}

// kills measures what the survivors notice of a member that is killed. Each has
// a client that writes one row after the other; they go on until the group has
// expelled the member.
func (o *FailureOptions) kills(ctx context.Context, dir string, leads bool) (row FailureRow, err error) {
	g, err := o.found(ctx, dir, 0)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	for i := range o.Repeats {
		leader, follower, err := g.leads(ctx)
		if err != nil {
			return row, err
		}
		victim := follower
		if leads {
			victim = leader
		}
		gap, quiet, err := g.kill(ctx, victim)
		if err != nil {
			return row, err
		}
		row.Seconds, row.Quiet = append(row.Seconds, gap.Seconds()), append(row.Quiet, quiet.Seconds())
		fmt.Fprintf(o.Progress, "kill %d of %d: %v without a commit, %v before\n", i+1, o.Repeats, gap.Round(time.Millisecond), quiet.Round(time.Millisecond))
		if err := g.again(ctx, victim); err != nil {
			return row, err
		}
	}
	return row, nil
}

// kill ends a member, and returns the longest time without a commit on another
// one, after that and before. It looks for as long before as it takes after, so
// that what the machine does by itself is in both.
func (g *trio) kill(ctx context.Context, victim *trioMember) (gap, quiet time.Duration, err error) {
	const (
		after  = time.Second // once the member is expelled
		before = concordat.DefaultMemberSuspectTimeout + concordat.DefaultMemberExpelTimeout + after
	)
	writing, stop := context.WithCancel(ctx)
	defer stop()
	var writers sync.WaitGroup
	var pulses []*pulse
	for i, m := range g.members {
		if m != victim {
			p := &pulse{}
			pulses = append(pulses, p)
			writers.Go(func() { p.write(writing, m.client, keyOf(i)) })
		}
	}
	began := time.Now()
	err = pause(ctx, before)
	killed := time.Now()
	if err == nil {
		err = victim.kill()
	}
	if err == nil {
		err = g.gone(ctx, victim)
	}
	if err == nil {
		err = pause(ctx, after)
	}
	stop()
	writers.Wait()
	ended := time.Now()
	for _, p := range pulses {
		if len(p.beats) == 0 || p.beats[len(p.beats)-1].Before(ended.Add(-after)) {
			err = errors.Join(err, errors.New("a survivor does not commit any more"))
		}
		gap, quiet = max(gap, p.longest(killed, ended)), max(quiet, p.longest(began, killed))
	}
	return gap, quiet, err
}

// pulse is when a client's writes were answered.
type pulse struct{ beats []time.Time }

// write writes one row after the other until ctx ends. A write that fails is
// none.
func (p *pulse) write(ctx context.Context, c *server.Client, key []byte) {
	const patience = 10 * time.Second // for the majority, if there is none
	value := valueOf(newRandom(0), 100)
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

// behind measures the return of a member that was killed, and has missed
// transactions that are all in the others' logs. They are written once; for each
// repetition the member's directory is put back to what it was.
func (o *FailureOptions) behind(ctx context.Context, dir string) (row FailureRow, err error) {
	g, err := o.found(ctx, dir, o.LogBytes)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	_, victim, err := g.leads(ctx)
	if err != nil {
		return row, err
	}
	if err := victim.kill(); err != nil {
		return row, err
	}
	as := victim.dir + ".kept"
	if err := os.CopyFS(as, os.DirFS(victim.dir)); err != nil {
		return row, err
	}
	fmt.Fprintf(o.Progress, "log: writing %d transactions\n", o.Transactions)
	if err := g.produce(ctx, victim, o.Transactions); err != nil {
		return row, err
	}
	row.Note = fmt.Sprintf("%d transactions of one row missed; checkpoint-size %d MiB", o.Transactions, o.LogBytes>>20)
	for i := range o.Repeats {
		if err := g.gone(ctx, victim); err != nil {
			return row, err
		}
		if err := errors.Join(os.RemoveAll(victim.dir), os.CopyFS(victim.dir, os.DirFS(as))); err != nil {
			return row, err
		}
		began := time.Now()
		if err := g.again(ctx, victim); err != nil {
			return row, err
		}
		row.Seconds = append(row.Seconds, time.Since(began).Seconds())
		if method, err := copiedBytes(ctx, victim.client); err != nil || method > 0 {
			return row, errors.Join(err, fmt.Errorf("it came back with a copy of %d bytes: the log did not reach so far, give a larger one", method))
		}
		fmt.Fprintf(o.Progress, "log %d of %d: ONLINE after %s\n", i+1, o.Repeats, timeText(row.Seconds[i]))
		if err := victim.kill(); err != nil {
			return row, err
		}
	}
	return row, nil
}

// produce commits transactions of one row, many at a time, through the members
// that are left.
func (g *trio) produce(ctx context.Context, down *trioMember, transactions int) error {
	const clients = 256
	var up []*server.Client
	for _, m := range g.members {
		if m != down {
			up = append(up, m.client)
		}
	}
	errs := make([]error, clients)
	var working sync.WaitGroup
	for c := range clients {
		working.Go(func() {
			value := valueOf(newRandom(uint64(c)), 32)
			for i := c; i < transactions && errs[c] == nil; i += clients {
				_, errs[c] = up[c%len(up)].Put(ctx, &kvpb.PutRequest{Table: wireTable, Key: keyOf(i), Value: value})
			}
		})
	}
	working.Wait()
	return errors.Join(errs...)
}

// copies measures how long a new member takes that copies a large store. It
// leaves afterwards, for the next one.
func (o *FailureOptions) copies(ctx context.Context, dir string) (row FailureRow, err error) {
	g, err := o.found(ctx, dir, 0)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	fmt.Fprintf(o.Progress, "clone: filling a store with %d MiB\n", o.StoreBytes>>20)
	if err := g.fill(ctx, o.StoreBytes); err != nil {
		return row, err
	}
	if row.DiskBytesPerSecond, err = diskRate(dir, o.StoreBytes); err != nil {
		return row, err
	}
	for i := range o.Repeats {
		before, err := g.cpu()
		if err != nil {
			return row, err
		}
		began := time.Now()
		m, err := g.add(ctx, fmt.Sprint("new", i+1))
		if err != nil {
			return row, err
		}
		took := time.Since(began).Seconds()
		row.Seconds = append(row.Seconds, took)
		after, err := g.cpu()
		if err != nil {
			return row, err
		}
		size, err := copiedBytes(ctx, m.client)
		if err == nil && size == 0 {
			err = errors.New("it came from the log without a copy: the store is smaller than the log that is kept")
		}
		if err != nil {
			return row, err
		}
		row.Bytes, row.CPU = float64(size), max(row.CPU, (after-before).Seconds()/took)
		fmt.Fprintf(o.Progress, "clone %d of %d: ONLINE after %s\n", i+1, o.Repeats, timeText(took))
		if err := g.leave(ctx, m); err != nil {
			return row, err
		}
	}
	return row, nil
}

// cpu is the CPU time that all members have used.
func (g *trio) cpu() (all time.Duration, err error) {
	for _, m := range g.members {
		cpu, err := processCPU(m.process.PID())
		if err != nil {
			return 0, err
		}
		all += cpu
	}
	return all, nil
}

// leave takes out the member that was added last, and removes what it had.
func (g *trio) leave(ctx context.Context, m *trioMember) error {
	if _, err := m.client.Leave(ctx, &adminpb.LeaveRequest{Force: true}); err != nil {
		return err
	}
	g.members = g.members[:len(g.members)-1]
	return errors.Join(m.client.Close(), m.kill(), os.RemoveAll(m.dir))
}

// fill writes rows of 1 KiB that do not compress, many in one transaction.
func (g *trio) fill(ctx context.Context, bytes int) error {
	const row, batch = 1 << 10, 1000
	random := newRandom(0)
	for from := 0; from < bytes/row; from += batch {
		var ops []*kvpb.Op
		for k := from; k < min(from+batch, bytes/row); k++ {
			ops = append(ops, &kvpb.Op{Op: &kvpb.Op_Put{Put: &kvpb.PutRequest{Table: wireTable, Key: keyOf(k), Value: valueOf(random, row)}}})
		}
		if _, err := g.members[0].client.Txn(ctx, &kvpb.TxnRequest{Ops: ops}); err != nil {
			return err
		}
	}
	return nil
}

// copiedBytes returns how many bytes of another member's state a member has
// copied since it was started.
func copiedBytes(ctx context.Context, c *server.Client) (bytes uint64, err error) {
	stream, err := c.History(ctx, &adminpb.HistoryRequest{})
	if err != nil {
		return 0, err
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return bytes, nil
		}
		if err != nil {
			return bytes, err
		}
		for _, e := range part.GetEvents() {
			if e.GetKind() != "CLONE_FINISHED" {
				continue
			}
			_, text, _ := strings.Cut(e.GetText(), ", ")
			if _, err := fmt.Sscanf(text, "%d bytes", &bytes); err != nil {
				return 0, fmt.Errorf("size of the copy in %q: %w", e.GetText(), err)
			}
		}
	}
}

// diskRate measures how many bytes a second the disk takes in one stream.
func diskRate(dir string, bytes int) (perSecond float64, err error) {
	f, err := os.CreateTemp(dir, "stream")
	if err != nil {
		return 0, err
	}
	defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }() // the directory goes anyway
	block := valueOf(newRandom(0), 1<<20)
	began := time.Now()
	written := 0
	for ; written < bytes; written += len(block) {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return float64(written) / time.Since(began).Seconds(), nil
}
