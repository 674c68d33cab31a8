package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/client"
	"github.com/concordatdb/concordat/gtid"
)

const changesHelp = `Print the transactions that the group has committed, in commit order, each once:
those that a member keeps and that are not in --after, and with --follow those to
come. The members at --address are asked for the group; when the one that is read
goes away, another one goes on by the GTIDs of what was printed.

A node keeps changes only with --change-retention. When some of what is asked for is
not kept any more, the message names it (exit code 1): begin with concordat dump, and
follow from the GTIDs that it prints.

GTIDs are those of one incarnation of the group: after a forced membership the same
ones may be of other transactions. --of names the incarnation that --after is of, and
the command refuses to go on with another one.

Each line is a row: GTID, log index, time by the clock of the member where it was
committed, operation, table, key, and the value or what was added. With --json each
line is a transaction; keys and values are in base64, for they may be any bytes.

--out FILE makes an archive: JSON lines behind a first one that says from where on it
is complete, and of what incarnation. Run again, the command goes on behind the last
whole line of the file.
concordat restore replays such a file on a dump, up to a GTID if need be.`

// changesFlags are the flags of the command changes.
type changesFlags struct {
	clientFlags

	after, of, from, out string
	tables               []string
	follow               bool
}

func newChangesCommand() *cobra.Command {
	var f changesFlags
	cmd := &cobra.Command{
		Use:   "changes",
		Short: "Print the transactions that were committed, and those to come",
		Long:  changesHelp,
		Example: `  concordat changes --table bank.accounts
  concordat changes --follow --json --after 5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50:1-1000
  concordat changes --follow --out archive.json --address 127.0.0.1:7500,127.0.0.1:7501`,
		Args: exactArgs(),
	}
	f.timeout = duration(30 * time.Second)
	f.registerTimeout(cmd, "how long no member may be able to serve")
	f.registerJSON(cmd)
	cmd.Flags().BoolVar(&f.follow, "follow", false, "go on until a signal; SIGINT ends it with exit code 0")
	cmd.Flags().StringVar(&f.after, "after", "", "`GTIDs` of the transactions to leave out, as those of a dump")
	cmd.Flags().StringVar(&f.of, "of", "", "`incarnation` of the group that --after is of")
	cmd.Flags().StringSliceVar(&f.tables, "table", nil, "`schema.name` of tables; others are left out")
	cmd.Flags().StringVar(&f.from, "read-from", "secondary", "follow the `member` that is primary, secondary or nearest")
	cmd.Flags().StringVar(&f.out, "out", "", "append to an archive, this `file`")
	cmd.RunE = interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		err := f.run(ctx, cmd)
		if f.follow && ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil // a signal is how it ends
		}
		return err
	})
	return cmd
}

// options are those of the stream.
func (f *changesFlags) options() ([]client.ChangesOption, error) {
	fresh := freshFlags{from: f.from}
	from, err := fresh.readFrom()
	if err != nil {
		return nil, err
	}
	options := []client.ChangesOption{client.ChangesFrom(from)}
	for _, text := range f.tables {
		t, err := parseTable(text)
		if err != nil {
			return nil, err
		}
		options = append(options, client.ChangesIn(client.Table{Schema: t.GetSchema(), Name: t.GetName()}))
	}
	if !f.follow {
		options = append(options, client.ChangesUntilNow())
	}
	return options, nil
}

// begin is the place that the flags name.
func (f *changesFlags) begin() (at changesPlace, err error) {
	if at.after, err = gtid.ParseSet(f.after); err != nil {
		return at, usagef("--after: %w", err)
	}
	if f.of != "" {
		if at.of, err = gtid.ParseUUID(f.of); err != nil {
			return at, usagef("--of: %w", err)
		}
	}
	return at, nil
}

func (f *changesFlags) run(ctx context.Context, cmd *cobra.Command) (err error) {
	options, err := f.options()
	if err != nil {
		return err
	}
	at, err := f.begin()
	switch {
	case err != nil:
		return err
	case len(f.addresses) == 0:
		return usagef("no address; give --address")
	case f.out != "" && len(f.tables) > 0:
		return usagef("an archive has all tables: give --out or --table")
	}
	tls, err := clientTLS(f.cert, f.key, f.ca)
	if err != nil {
		return err
	}
	opening, cancel := f.bound(ctx)
	defer cancel()
	patience := time.Duration(f.timeout)
	if patience == 0 {
		patience = forEver
	}
	c, err := client.Open(opening, client.Config{Addresses: f.addresses, TLS: tls, Timeout: patience})
	if err != nil {
		return typed(err)
	}
	defer func() { _ = c.Close() }()
	emit := f.printer(cmd.OutOrStdout())
	if f.out != "" {
		var a *archive
		if a, at, err = openArchive(f.out, at, c.View().Incarnation); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.close()) }()
		emit = a.add
	}
	for change, err := range c.Changes(ctx, at.after, append(options, client.ChangesOf(at.of))...) {
		if err == nil {
			err = emit(&change)
		}
		if err != nil {
			return typed(err)
		}
	}
	return nil
}

// changeJSON is a line of changes --json, and of an archive. Its fields stay.
type changeJSON struct {
	GTID   string      `json:"gtid"`
	Index  uint64      `json:"index"`
	Origin string      `json:"origin"`
	Time   time.Time   `json:"time"`
	Rows   []changeRow `json:"rows"`
}

// changeRow is a row of it. Keys and values are any bytes, in base64.
type changeRow struct {
	Op     string `json:"op"` // put, delete or add
	Schema string `json:"schema"`
	Table  string `json:"table"`
	Key    []byte `json:"key"`
	Value  []byte `json:"value,omitempty"` // of a put; of an add where old values are known
	Delta  int64  `json:"delta,omitempty"` // of an add
	// Existed is there where old values are known, and Old where there was one.
	Existed *bool  `json:"existed,omitempty"`
	Old     []byte `json:"old,omitempty"`
}

// changeOps are the names of operations.
var changeOps = map[client.ChangeOp]string{client.ChangePut: "put", client.ChangeDelete: "delete", client.ChangeAdd: "add"}

func changeLine(c *client.Change) changeJSON {
	line := changeJSON{GTID: c.GTID.String(), Index: c.Index, Origin: c.Origin.String(), Time: c.Time.UTC(), Rows: []changeRow{}}
	for i := range c.Rows {
		r := &c.Rows[i]
		row := changeRow{
			Op: changeOps[r.Op], Schema: r.Table.Schema, Table: r.Table.Name, Key: r.Key, Value: r.New, Delta: r.Delta,
		}
		if row.Key == nil {
			row.Key = []byte{} // null would be no key
		}
		if r.OldKnown {
			row.Existed, row.Old = &r.Existed, r.Old
		}
		line.Rows = append(line.Rows, row)
	}
	return line
}

// printer returns what prints changes as they come.
func (f *changesFlags) printer(w io.Writer) func(*client.Change) error {
	if f.json {
		lines := json.NewEncoder(w)
		return func(c *client.Change) error { return lines.Encode(changeLine(c)) }
	}
	quote := kvFlags{}
	return func(c *client.Change) error {
		line := changeLine(c)
		for i := range line.Rows {
			r := &line.Rows[i]
			value := quote.quote(r.Value)
			switch r.Op {
			case "add":
				value = strconv.FormatInt(r.Delta, 10)
			case "delete":
				value = "-"
			}
			say(w, "%s\t%d\t%s\t%s\t%s.%s\t%s\t%s\n", line.GTID, line.Index, line.Time.Format(time.RFC3339Nano),
				r.Op, r.Schema, r.Table, quote.quote(r.Key), value)
		}
		return nil
	}
}
