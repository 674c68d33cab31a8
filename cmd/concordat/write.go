package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

const termsHelp = `With --id the transaction can be sent again without harm, to any node: under one
id it commits once, and each time its GTID is printed. Without it an id is
drawn, which the message of exit code 5 names. Only ids of late are remembered:
see outcome-transactions in concordat settings.`

// writeFlags are the flags of the commands that write keys.
type writeFlags struct {
	kvFlags

	id, gtid string
}

func (f *writeFlags) register(cmd *cobra.Command) {
	f.kvFlags.register(cmd)
	cmd.Flags().StringVar(&f.id, "id", "", "id of the transaction, a `UUID`; drawn when this is empty")
	cmd.Flags().StringVar(&f.gtid, "gtid", "", "`GTID` to ask for, or AUTOMATIC:tag for the group's next one under a tag")
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

// printGTID prints what a write has come to.
func (f *writeFlags) printGTID(cmd *cobra.Command, gtid string, err error) error {
	if u, ok := errors.AsType[*concordat.OutcomeUnknownError](err); ok {
		return fmt.Errorf("%w; ask with: concordat outcome %s", err, u.ID)
	}
	if err != nil {
		return err
	}
	if f.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"gtid": gtid})
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), gtid)
	return err
}
