package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// kvFlags are the flags of the commands that read and write keys.
type kvFlags struct {
	clientFlags
	freshFlags

	hex bool
}

func (f *kvFlags) register(cmd *cobra.Command) {
	f.clientFlags.register(cmd)
	f.registerForms(cmd)
}

// registerForms is register without the timeout.
func (f *kvFlags) registerForms(cmd *cobra.Command) {
	f.registerJSON(cmd)
	cmd.Flags().BoolVar(&f.hex, "hex", false, "keys and values are in hexadecimal, given and printed")
	f.registerFresh(cmd)
}

// parseTable reads schema.name. The name may have further points.
func parseTable(text string) (*kvpb.Table, error) {
	schema, name, ok := strings.Cut(text, ".")
	if !ok || schema == "" || name == "" {
		return nil, usagef("%q is no table: write schema.name, as in bank.accounts", text)
	}
	return &kvpb.Table{Schema: schema, Name: name}, nil
}

// parse reads a key or value of the command line.
func (f *kvFlags) parse(text string) ([]byte, error) {
	if !f.hex {
		return []byte(text), nil
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return nil, usagef("%q is not hexadecimal: %w", text, err)
	}
	return b, nil
}

// print returns a key or value as it is printed.
func (f *kvFlags) print(b []byte) string {
	if f.hex {
		return hex.EncodeToString(b)
	}
	return string(b)
}

// quote is print for a place in a line: what could be taken for something else
// is quoted as in Go.
func (f *kvFlags) quote(b []byte) string {
	text := f.print(b)
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` || text == "" || strings.Contains(text, " ") {
		return quoted
	}
	return text
}

// encode prints v as one line of JSON. JSON has no bytes, so they must be text.
func (f *kvFlags) encode(w io.Writer, v any, texts ...[]byte) error {
	for _, text := range texts {
		if !f.hex && !utf8.Valid(text) {
			return fmt.Errorf("%q is not UTF-8, which JSON needs; use --hex", text)
		}
	}
	return json.NewEncoder(w).Encode(v)
}

func newGetCommand() *cobra.Command {
	var f kvFlags
	var asCounter bool
	cmd := &cobra.Command{
		Use:   "get TABLE KEY",
		Short: "Print the value of a key",
		Long: `Print the value of a key, as it is, and a line end. When there is no such key,
standard output stays empty and the exit code is 3. What concordat add has
written is 8 bytes; --counter prints the number that they are.

` + readHelp,
		Example: `  concordat get bank.accounts alice
  concordat get app.counters visits --counter
  concordat get bank.accounts alice --address 127.0.0.1:7500,127.0.0.1:7501 --read-from secondary --consistency BEFORE
  concordat get --hex app.blobs 00ff --address 127.0.0.1:7501`,
		Args: exactArgs("TABLE", "KEY"),
	}
	f.register(cmd)
	f.registerFrom(cmd)
	cmd.Flags().BoolVar(&asCounter, "counter", false, "print the value as the number at which a counter stands")
	cmd.RunE = f.useStore(f.readsDirectly, func(ctx context.Context, cmd *cobra.Command, s store, args []string) error {
		t, key, err := f.tableAndKey(args)
		if err != nil {
			return err
		}
		value, found, err := s.get(ctx, t, key)
		switch {
		case err != nil:
			return err
		case !found:
			return fmt.Errorf("%s %s: %w", args[0], f.quote(key), errNotFound)
		case asCounter:
			return f.printCounter(cmd, args[0], key, value)
		case f.json:
			return f.encode(cmd.OutOrStdout(), pairJSON{f.print(key), f.print(value)}, key, value)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), f.print(value))
		return err
	})
	return cmd
}

type pairJSON struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func newPutCommand() *cobra.Command {
	var f writeFlags
	cmd := &cobra.Command{
		Use:   "put TABLE KEY VALUE",
		Short: "Set the value of a key",
		Long: `Set the value of a key, and print the GTID of the transaction that did it.

` + termsHelp,
		Example: `  concordat put bank.accounts alice 100
  concordat put bank.accounts alice 100 --id 9e107d9d-372b-4b68-8ad5-1f2c3d4e5f60
  concordat put --hex app.blobs 00ff cafe`,
		Args: exactArgs("TABLE", "KEY", "VALUE"),
	}
	f.register(cmd)
	cmd.RunE = f.write(func(w *write, args []string) (err error) {
		w.table, w.key, err = f.tableAndKey(args)
		if err != nil {
			return err
		}
		w.value, err = f.parse(args[2])
		return err
	})
	return cmd
}

func newDeleteCommand() *cobra.Command {
	var f writeFlags
	cmd := &cobra.Command{
		Use:   "delete TABLE KEY",
		Short: "Remove a key",
		Long: `Remove a key, which need not be there, and print the GTID of the transaction.

` + termsHelp,
		Example: "  concordat delete bank.accounts alice",
		Args:    exactArgs("TABLE", "KEY"),
	}
	f.register(cmd)
	cmd.RunE = f.write(func(w *write, args []string) (err error) {
		w.verb = verbDelete
		w.table, w.key, err = f.tableAndKey(args)
		return err
	})
	return cmd
}

func (f *kvFlags) tableAndKey(args []string) (*kvpb.Table, []byte, error) {
	t, err := parseTable(args[0])
	if err != nil {
		return nil, nil, err
	}
	key, err := f.parse(args[1])
	return t, key, err
}

func newScanCommand() *cobra.Command {
	var f kvFlags
	var from, to string
	request := &kvpb.ScanRequest{}
	cmd := &cobra.Command{
		Use:   "scan TABLE",
		Short: "Print the pairs of a table in the order of their keys",
		Long: `Print the pairs of a table, or of a range of its keys, all from one snapshot:
one line for each, key, tab and value. What is not plain text is quoted.
With --json each line is an object.

` + readHelp,
		Example: `  concordat scan bank.accounts
  concordat scan bank.accounts --from a --to b --limit 10 --json`,
		Args: exactArgs("TABLE"),
	}
	f.register(cmd)
	f.registerFrom(cmd)
	cmd.Flags().StringVar(&from, "from", "", "first `key`; empty: from the first one on")
	cmd.Flags().StringVar(&to, "to", "", "`key` before which to stop; empty: to the last one")
	cmd.Flags().BoolVar(&request.Reverse, "reverse", false, "largest key first")
	cmd.Flags().Uint64Var(&request.Limit, "limit", 0, "the most pairs to print; 0 for all")
	cmd.RunE = f.useStore(f.readsDirectly, func(ctx context.Context, cmd *cobra.Command, s store, args []string) error {
		var errs [3]error
		request.Table, errs[0] = parseTable(args[0])
		request.From, errs[1] = f.parse(from)
		request.To, errs[2] = f.parse(to)
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
		return s.scan(ctx, request, func(key, value []byte) error { return f.printPair(cmd.OutOrStdout(), key, value) })
	})
	return cmd
}

// printPair prints a pair as a line of a scan.
func (f *kvFlags) printPair(w io.Writer, key, value []byte) error {
	if f.json {
		return f.encode(w, pairJSON{f.print(key), f.print(value)}, key, value)
	}
	_, err := fmt.Fprintf(w, "%s\t%s\n", f.quote(key), f.quote(value))
	return err
}
