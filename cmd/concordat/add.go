package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

func newAddCommand() *cobra.Command {
	var f writeFlags
	cmd := &cobra.Command{
		Use:   "add TABLE KEY N",
		Short: "Add a number to a counter",
		Long: `Add a number to the counter under a key, and print the GTID of the transaction.
A key that is not there counts as 0. Those who add to one counter at once do not
conflict, whatever nodes they ask. The number may be negative: write -- before
it, or it looks like a flag. concordat get --counter prints what a counter
stands at.

` + termsHelp,
		Example: `  concordat add app.counters visits 1
  concordat add --address 127.0.0.1:7501 app.counters stock -- -5`,
		Args: exactArgs("TABLE", "KEY", "N"),
	}
	f.register(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, args []string) error {
		t, key, err := f.tableAndKey(args)
		if err != nil {
			return err
		}
		delta, err := strconv.ParseInt(args[2], 10, 64)
		if err != nil {
			return usagef("%q is no number to add: write a whole one of 64 bits, as in 1 or -- -5", args[2])
		}
		id, err := f.transactionID()
		if err != nil {
			return err
		}
		r, err := c.Add(ctx, &kvpb.AddRequest{Table: t, Key: key, Delta: delta, TransactionId: id, Gtid: f.gtid})
		return f.printGTID(cmd, r.GetGtid(), err)
	})
	return cmd
}

// printCounter prints a value as the number that it is.
func (f *kvFlags) printCounter(cmd *cobra.Command, table string, key, value []byte) error {
	n, ok := concordat.DecodeCounter(value)
	if !ok {
		return fmt.Errorf("%s %s holds no counter, but %d bytes of something else; see it without --counter", table, f.quote(key), len(value))
	}
	if f.json {
		return f.encode(cmd.OutOrStdout(), counterJSON{f.print(key), json.Number(strconv.FormatInt(n, 10))}, key)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), n)
	return err
}

type counterJSON struct {
	Key     string      `json:"key"`
	Counter json.Number `json:"counter"`
}
