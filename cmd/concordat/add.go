package main

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
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
	cmd.RunE = f.write(func(w *write, args []string) (err error) {
		w.verb = verbAdd
		if w.table, w.key, err = f.tableAndKey(args); err != nil {
			return err
		}
		w.delta, err = parseDelta(args[2])
		return err
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
