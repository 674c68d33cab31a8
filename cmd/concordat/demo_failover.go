package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/client"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

var notesTable = &kvpb.Table{Schema: "shop", Name: "notes"}

// kill kills the primary, and tells how long nobody could write.
func (d *demo) kill(ctx context.Context) error {
	victim, was, err := d.primary(ctx)
	if err != nil {
		return err
	}
	d.tell.heading(fmt.Sprintf("%s, the primary, is killed", victim.name))
	before := d.bank.tally()
	d.bank.watchPause()
	if err := victim.kill(); err != nil {
		return err
	}
	d.tell.line("SIGKILL for process %d", victim.ready.PID)
	if err := d.takenOver(ctx, was.GetNumber()); err != nil {
		return err
	}
	now, pause := d.bank.tally(), d.bank.longestPause()
	d.tell.line("the clients went on by themselves: %s transfers since", count(now.acknowledged-before.acknowledged))
	d.tell.line("nobody could write for %s", d.tell.strong(pause.Round(time.Millisecond).String()))
	if open := now.unknown - before.unknown; open > 0 {
		d.tell.line("%s transfers were under way: what became of them can be asked by their ids", count(open))
	}
	return nil
}

// takenOver waits for an epoch after another one, tells of it, and lets the load
// run in it.
func (d *demo) takenOver(ctx context.Context, epoch uint64) error {
	var now *adminpb.EpochRecord
	var primary *demoMember
	err := poll(ctx, "no member takes over", func() bool {
		var err error
		primary, now, err = d.primary(ctx)
		return err == nil && now.GetNumber() > epoch
	})
	if err != nil {
		return err
	}
	if err := d.bank.goesOn(ctx); err != nil {
		return err
	}
	if err := d.wait(ctx, time.Duration(d.options.phase)); err != nil {
		return err
	}
	d.tell.line("epoch %d: %s is the primary: %s", now.GetNumber(), d.tell.strong(primary.name), d.named(now.GetReason()))
	return nil
}

// named gives members in a text their names.
func (d *demo) named(text string) string {
	for _, m := range d.group.all() {
		text = strings.ReplaceAll(text, m.ready.Member, m.name)
	}
	return text
}

// primary returns the primary and the epoch, as a member knows them that runs.
func (d *demo) primary(ctx context.Context) (*demoMember, *adminpb.EpochRecord, error) {
	var newest *adminpb.EpochRecord
	for _, m := range d.group.all() {
		if m.use() == nil {
			continue
		}
		why, err := m.use().Why(ctx, &adminpb.WhyRequest{})
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", m.name, err)
		}
		if e := why.GetEpoch(); newest == nil || e.GetNumber() > newest.GetNumber() {
			newest = e
		}
	}
	for _, m := range d.group.all() {
		if m.ready.Member == newest.GetPrimary() && m.use() != nil {
			return m, newest, nil
		}
	}
	return nil, newest, fmt.Errorf("%w: epoch %d has no primary that runs", errBroken, newest.GetNumber())
}

// restart starts the killed member again, which is a secondary then.
func (d *demo) restart(ctx context.Context) error {
	victim := d.group.down()
	d.tell.heading(victim.name + " is started again on its own disk")
	began := time.Now()
	if err := d.group.run(ctx, victim); err != nil {
		return err
	}
	d.tell.line("ONLINE after %v, with all that it had missed, and a secondary now", time.Since(began).Round(time.Millisecond))
	primary, _, err := d.primary(ctx)
	if err != nil {
		return err
	}
	_, err = victim.use().Put(ctx, &kvpb.PutRequest{Table: notesTable, Key: []byte("refused"), Value: []byte("x")})
	refused, ok := errors.AsType[*concordat.ReadOnlyError](err)
	if !ok || refused.Primary.String() != primary.ready.Member || refused.ClientAddress != primary.ready.ClientAddress {
		return fmt.Errorf("%w: a write on %s, which is no primary, ended with %w", errBroken, victim.name, orNothing(err))
	}
	d.tell.line("a write there is refused, and its client sent to %s, %s", primary.name, refused.ClientAddress)
	return nil
}

var errNothing = errors.New("no error")

func orNothing(err error) error {
	if err == nil {
		return errNothing
	}
	return err
}

// readBacks is how often a row is written at the primary, and read at once on a
// follower.
const readBacks = 100

// readOwn writes at the primary and reads on followers.
func (d *demo) readOwn(ctx context.Context) error {
	d.tell.heading("What was written at the primary is read at once on a follower")
	notes, key := client.On(client.Table{Schema: notesTable.GetSchema(), Name: notesTable.GetName()}), []byte("note")
	follower := client.From(client.Secondary())
	old := 0
	for i := range readBacks {
		value := strconv.AppendInt(nil, int64(i), 10)
		if _, err := d.bank.client.Put(ctx, key, value, notes); err != nil {
			return err
		}
		d.others++
		eventual, _, err := d.bank.client.Get(ctx, key, notes, follower, client.At(client.Eventual))
		if err != nil {
			return err
		}
		if !bytes.Equal(eventual, value) {
			old++
		}
		before, _, err := d.bank.client.Get(ctx, key, notes, follower, client.At(client.Before))
		if err != nil {
			return err
		}
		if !bytes.Equal(before, value) {
			return fmt.Errorf("%w: %q was written, and a follower shows %q at BEFORE", errBroken, value, before)
		}
	}
	d.tell.line("%d times, while the load runs; at EVENTUAL %d of the reads were too early", readBacks, old)
	d.tell.check("at BEFORE each of the %d showed what had just been written", readBacks)
	return nil
}

// move changes the primary as planned.
func (d *demo) move(ctx context.Context) error {
	from, was, err := d.primary(ctx)
	if err != nil {
		return err
	}
	to := d.group.all()[0]
	if to == from {
		to = d.group.all()[1]
	}
	d.tell.heading(fmt.Sprintf("The primary is moved from %s to %s, as planned", from.name, to.name))
	before := d.bank.tally()
	d.bank.watchPause()
	if _, err := from.use().SetPrimary(ctx, &adminpb.SetPrimaryRequest{Member: to.ready.Member}); err != nil {
		return err
	}
	if err := d.takenOver(ctx, was.GetNumber()); err != nil {
		return err
	}
	now, pause := d.bank.tally(), d.bank.longestPause()
	if primary, _, err := d.primary(ctx); err != nil || primary != to {
		return fmt.Errorf("%w: %s is not the primary: %w", errBroken, to.name, orNothing(err))
	}
	d.tell.line("%s transfers since; the longest time between two of them was %s",
		count(now.acknowledged-before.acknowledged), d.tell.strong(pause.Round(time.Millisecond).String()))
	return nil
}

// openUp has all members write.
func (d *demo) openUp(ctx context.Context) error {
	d.tell.heading("From here on all members write")
	before := d.bank.tally()
	d.bank.watchPause()
	m := d.group.all()[0]
	r, err := m.use().SwitchMode(ctx, &adminpb.SwitchModeRequest{Mode: adminpb.Mode_MODE_MULTI_PRIMARY})
	if err != nil {
		return err
	}
	if err := d.wait(ctx, time.Duration(d.options.phase)/2); err != nil {
		return err
	}
	now, pause := d.bank.tally(), d.bank.longestPause()
	d.tell.line("epoch %d: multi-primary", r.GetAction().GetEpoch())
	d.tell.line("%s transfers meanwhile, the longest time between two of them %s",
		count(now.acknowledged-before.acknowledged), pause.Round(time.Millisecond))
	return nil
}
