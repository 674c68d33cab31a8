package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

const termsHelp = `The write goes to where the group writes, whichever members --address names; it
follows a change of the primary. With --direct it goes to the node at --address,
which refuses it if it does not write: exit code 9.

With --id the transaction can be sent again without harm, to any node: under one
id it commits once, and each time its GTID is printed. Without it an id is
drawn, which the message of exit code 5 names. Only ids of late are remembered:
see outcome-transactions in concordat settings.`

// writeFlags are the flags of the commands that write keys.
type writeFlags struct {
	kvFlags

	id, gtid string
	tag      string
	weight   uint32
	direct   bool
}

func (f *writeFlags) register(cmd *cobra.Command) {
	f.kvFlags.register(cmd)
	f.registerTerms(cmd)
	cmd.Flags().BoolVar(&f.direct, "direct", false, "write at the node at --address, and at no other one")
}

// registerTerms is for all that can write.
func (f *writeFlags) registerTerms(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.id, "id", "", "id of the transaction, a `UUID`; drawn when this is empty")
	cmd.Flags().StringVar(&f.gtid, "gtid", "", "`GTID` to ask for, or AUTOMATIC:tag for the group's next one under a tag")
	cmd.Flags().StringVar(&f.tag, "tag", "", "`class` of the transaction, which shares by its weight while the group is slowed; see concordat flow")
	cmd.Flags().Uint32Var(&f.weight, "weight", 0, "weight of the class, 1 to 1000; 0 is 1")
}

// transactionID returns the id to send. There always is one, so that a write
// whose answer got lost can be asked for.
func (f *writeFlags) transactionID() (string, error) {
	if f.id != "" {
		return f.id, nil
	}
	id, err := gtid.NewUUID(rand.Reader)
	return id.String(), err
}

// write makes a command's function out of one that reads its arguments.
func (f *writeFlags) write(read func(w *write, args []string) error) func(*cobra.Command, []string) error {
	direct := func() (bool, error) { return f.direct, nil }
	return f.useStore(direct, func(ctx context.Context, cmd *cobra.Command, s store, args []string) error {
		w := &write{gtid: f.gtid, tag: f.tag, weight: f.weight}
		if err := read(w, args); err != nil {
			return err
		}
		var err error
		if w.id, err = f.transactionID(); err != nil {
			return err
		}
		done, err := s.write(ctx, w)
		return f.printWritten(cmd, done, err)
	})
}

// printWritten prints what a write has come to.
func (f *writeFlags) printWritten(cmd *cobra.Command, done written, err error) error {
	if err != nil {
		return unknownHint(err)
	}
	if f.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(done)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), done.GTID)
	return err
}

// unknownHint tells how to ask for what became of a transaction.
func unknownHint(err error) error {
	if u, ok := errors.AsType[*concordat.OutcomeUnknownError](err); ok {
		return fmt.Errorf("%w; ask with: concordat outcome %s", err, u.ID)
	}
	return err
}
