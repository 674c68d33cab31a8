package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

var wireTable = &kvpb.Table{Schema: table.Schema, Name: table.Name}

// processes is a group of member processes, reached through gRPC.
type processes struct {
	members []NodeProcess
	clients []*server.Client
}

// startProcesses starts the members of a group, the first one as o says.
func startProcesses(ctx context.Context, dir string, o MemberOptions, start StartMember) (_ *processes, err error) {
	g := &processes{}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	for i := range Members {
		o.Dir = filepath.Join(dir, fmt.Sprint("member", i+1))
		p, err := start(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("member process %d: %w", i+1, err)
		}
		g.members = append(g.members, p)
		c, err := server.Dial(p.ClientAddress(), nil)
		if err != nil {
			return nil, err
		}
		g.clients = append(g.clients, c)
		o.Seed = g.members[0].MemberAddress()
	}
	return g, nil
}

func (g *processes) update(ctx context.Context, member int, j job) (id gtid.GTID, conflicts int, err error) {
	c := g.clients[member]
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
	_, err := g.clients[0].Txn(ctx, &kvpb.TxnRequest{Ops: ops})
	return err
}

func (g *processes) leader(ctx context.Context) (int, error) {
	for i, c := range g.clients {
		s, err := c.Status(ctx, &adminpb.StatusRequest{})
		if err != nil {
			return 0, err
		}
		if s.GetLeader() == s.GetMember() {
			return i, nil
		}
	}
	return 0, errors.New("no member leads")
}

func (g *processes) usage(ctx context.Context) (usage, error) {
	cpu, err := ownCPU()
	u := usage{cpu: cpu}
	if err != nil {
		return u, err
	}
	for i, c := range g.clients {
		s, err := c.Status(ctx, &adminpb.StatusRequest{})
		if err != nil {
			return u, err
		}
		u.logWrites += s.GetCounters().GetLogSyncs()
		cpu, err := processCPU(g.members[i].PID())
		if err != nil {
			return u, err
		}
		u.cpu += cpu
	}
	return u, nil
}

func (g *processes) close() error {
	var errs []error
	for _, c := range g.clients {
		errs = append(errs, c.Close())
	}
	for _, p := range g.members {
		errs = append(errs, p.Stop())
	}
	return errors.Join(errs...)
}
