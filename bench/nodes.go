package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

// Group is the name of the groups measured. They live on loopback and do
// not outlive the measurement.
const Group = "be9c0000-0000-4000-8000-000000000001"

var table = concordat.Table{Schema: "bench", Name: "rows"}

// startGroup starts a group of a shape.
func startGroup(ctx context.Context, shape Shape, dir string, each MemberOptions, start StartMember) (group, error) {
	if shape == Processes {
		return startProcesses(ctx, dir, each, start)
	}
	return startNodes(ctx, dir, each.Mode, func(_ int, cfg *concordat.Config) error {
		cfg.WarmLog = each.WarmLog
		return nil
	})
}

// memberName is the directory of a member, by its number from 0.
func memberName(i int) string { return fmt.Sprint("member", i+1) }

// nodes is a group in this process.
type nodes struct{ members []*concordat.Node }

// startNodes starts the members of a group. change, if not nil, has the last word on
// the configuration of each, by its number from 0.
func startNodes(ctx context.Context, dir string, mode concordat.Mode, change func(i int, cfg *concordat.Config) error) (_ *nodes, err error) {
	g := &nodes{}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	for i := range Members {
		cfg := concordat.Config{Group: Group, Dir: filepath.Join(dir, memberName(i)), Listen: loopback}
		if i == 0 {
			cfg.Bootstrap, cfg.FoundingMode = true, mode
		} else {
			cfg.Seeds = []string{g.members[0].Address()}
		}
		if change != nil {
			if err := change(i, &cfg); err != nil {
				return nil, fmt.Errorf("member %d: %w", i+1, err)
			}
		}
		n, err := concordat.Open(ctx, cfg)
		if err != nil {
			return nil, fmt.Errorf("member %d: %w", i+1, err)
		}
		g.members = append(g.members, n)
	}
	return g, nil
}

func (g *nodes) update(ctx context.Context, member int, j job) (id gtid.GTID, conflicts int, err error) {
	n := g.members[member]
	var options []concordat.TxOption
	if j.level != 0 {
		options = append(options, concordat.WithConsistency(j.level))
	}
	if j.reads {
		return id, 0, n.View(ctx, j.run, options...)
	}
	if j.from == nil {
		id, err = n.Update(ctx, func(tx *concordat.Tx) error {
			conflicts++
			return j.run(tx)
		}, options...)
		return id, conflicts - 1, err
	}
	// What was refused is looked at, so it is not run again here.
	tx, err := n.Begin(ctx, concordat.WithIsolation(concordat.Serializable))
	if err != nil {
		return id, 0, err
	}
	defer func() { _ = tx.Rollback() }()
	if err := j.run(tx); err != nil {
		return id, 0, err
	}
	id, err = tx.Commit(ctx)
	return id, 0, err
}

func (j job) run(tx *concordat.Tx) error {
	if j.add {
		return tx.Add(table, j.key, 1)
	}
	if j.readFirst {
		if _, _, err := tx.Get(table, j.key); err != nil || j.reads {
			return err
		}
	}
	if j.from != nil {
		for range tx.Scan(table, j.from, j.to) {
			continue
		}
		if err := tx.Err(); err != nil {
			return err
		}
	}
	return tx.Put(table, j.key, j.value)
}

func (g *nodes) load(ctx context.Context, pairs []pair) error {
	_, err := g.members[0].Update(ctx, func(tx *concordat.Tx) error {
		for _, p := range pairs {
			if err := tx.Put(table, p.key, p.value); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

func (g *nodes) leader(context.Context) (int, error) {
	for i, n := range g.members {
		s := n.Status()
		if p, ok := n.Primary(); ok && p.Member == s.Member || !ok && s.Leader == s.Member {
			return i, nil
		}
	}
	return 0, errors.New("no member leads")
}

func (g *nodes) usage(context.Context) (usage, error) {
	cpu, err := ownCPU()
	u := usage{cpu: cpu}
	for _, n := range g.members {
		u.logWrites += n.Status().Counters.LogWrites
	}
	return u, err
}

func (g *nodes) close() error {
	var errs []error
	for _, n := range g.members {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}
