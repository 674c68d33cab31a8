package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

var wireTable = &kvpb.Table{Schema: table.Schema, Name: table.Name}

// processes is a group of member processes, reached through gRPC, of which some
// may come and go.
type processes struct {
	dir      string
	each     MemberOptions // of every member, but for what differs
	starting StartMember
	members  []*member
}

// startProcesses starts the members of a group, each as the options say.
func startProcesses(ctx context.Context, dir string, each MemberOptions, start StartMember) (_ *processes, err error) {
	g := &processes{dir: dir, each: each, starting: start}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	for i := range Members {
		if _, err := g.add(ctx, memberName(i)); err != nil {
			return nil, fmt.Errorf("member process %d: %w", i+1, err)
		}
	}
	return g, nil
}

// add starts a new member, in a directory of that name.
func (g *processes) add(ctx context.Context, name string) (*member, error) {
	o := g.each
	o.Dir = filepath.Join(g.dir, name)
	if len(g.members) > 0 {
		o.Seed = g.members[0].process.MemberAddress()
	}
	m := &member{dir: o.Dir}
	g.members = append(g.members, m) // one that does not come so far has a process to be ended, too
	err := m.start(ctx, g.starting, o)
	return m, err
}

// again starts a member's process once more, where it was.
func (g *processes) again(ctx context.Context, m *member, applyWorkers int) error {
	o := g.each
	o.Dir, o.Earlier, o.ApplyWorkers = m.dir, m.process, applyWorkers
	return m.start(ctx, g.starting, o)
}

// leave takes out the member that was added last, and removes what it had.
func (g *processes) leave(ctx context.Context, m *member) error {
	if _, err := m.client.Leave(ctx, &adminpb.LeaveRequest{Force: true}); err != nil {
		return err
	}
	g.members = g.members[:len(g.members)-1]
	return errors.Join(m.close(), os.RemoveAll(m.dir))
}

func (g *processes) update(ctx context.Context, member int, j job) (id gtid.GTID, conflicts int, err error) {
	c := g.members[member].client
	var fresh *kvpb.Freshness
	if j.level != 0 {
		fresh = &kvpb.Freshness{Consistency: kvpb.Consistency(j.level)} // their numbers are the same
	}
	put := &kvpb.PutRequest{Table: wireTable, Key: j.key, Value: j.value}
	get := &kvpb.GetRequest{Table: wireTable, Key: j.key}
	switch {
	case j.reads:
		get.Freshness = fresh
		_, err = c.Get(ctx, get)
	case j.readFirst:
		_, err = c.Txn(ctx, &kvpb.TxnRequest{Freshness: fresh, Ops: []*kvpb.Op{
			{Op: &kvpb.Op_Get{Get: get}}, {Op: &kvpb.Op_Put{Put: put}},
		}})
	default:
		put.Freshness = fresh
		_, err = c.Put(ctx, put)
	}
	return id, 0, err
}

func (g *processes) load(ctx context.Context, pairs []pair) error {
	ops := make([]*kvpb.Op, len(pairs))
	for i, p := range pairs {
		ops[i] = &kvpb.Op{Op: &kvpb.Op_Put{Put: &kvpb.PutRequest{Table: wireTable, Key: p.key, Value: p.value}}}
	}
	_, err := g.members[0].client.Txn(ctx, &kvpb.TxnRequest{Ops: ops})
	return err
}

// produce commits transactions of one row, many at a time, through the members
// that are left.
func (g *processes) produce(ctx context.Context, down *member, transactions int) error {
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

func (g *processes) leader(ctx context.Context) (int, error) {
	for i, m := range g.members {
		s, err := m.client.Status(ctx, &adminpb.StatusRequest{})
		if err != nil {
			return 0, err
		}
		if leading(s) {
			return i, nil
		}
	}
	return 0, errors.New("no member leads")
}

// leading reports whether a member is the primary, or leads where all write.
func leading(s *adminpb.StatusResponse) bool {
	return cmp.Or(s.GetPrimary(), s.GetLeader()) == s.GetMember()
}

// leads waits until a member leads, and returns it and another one.
func (g *processes) leads(ctx context.Context) (leader, follower *member, err error) {
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
func (g *processes) gone(ctx context.Context, m *member) error {
	for _, other := range g.members {
		if other == m {
			continue
		}
		if err := other.dropped(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (g *processes) usage(ctx context.Context) (usage, error) {
	own, err := ownCPU()
	if err != nil {
		return usage{}, err
	}
	var u usage
	for _, m := range g.members {
		s, err := m.client.Status(ctx, &adminpb.StatusRequest{})
		if err != nil {
			return u, err
		}
		u.logWrites += s.GetCounters().GetLogSyncs()
	}
	members, err := g.cpu()
	u.cpu = own + members
	return u, err
}

// cpu is the CPU time that all members have used.
func (g *processes) cpu() (all time.Duration, err error) {
	for _, m := range g.members {
		cpu, err := processCPU(m.process.PID())
		if err != nil {
			return 0, err
		}
		all += cpu
	}
	return all, nil
}

func (g *processes) close() error {
	var errs []error
	for _, m := range g.members {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}
