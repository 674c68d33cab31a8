package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/client"
)

const txnHelp = `Run transactions that standard input describes, one operation on a line:

  get TABLE KEY
  put TABLE KEY VALUE
  delete TABLE KEY
  add TABLE KEY N
  scan TABLE [FROM [TO]]

Words are separated by spaces; one in double quotes, as in Go, may have spaces. What
follows a # is a comment. A get prints the key, and tab and value if there is such a
key; a scan prints its pairs like that.

A script without begin is one transaction, sent as a whole at the end of the input;
it cannot scan. With begin a transaction begins at once, each operation is run as
its line comes, and commit or rollback ends it; further ones may follow. What has
not been committed at the end of the input is rolled back, with exit code 1.

A commit prints the GTID of the transaction, unless it wrote nothing. --id is for a
script of one transaction. A transaction with begin is not run again by itself: exit
code 4 says that it can be.`

// txnFlags are the flags of concordat txn.
type txnFlags struct {
	writeFlags

	serializable, readOnly bool
}

func newTxnCommand() *cobra.Command {
	var f txnFlags
	cmd := &cobra.Command{
		Use:   "txn",
		Short: "Run transactions from standard input",
		Long:  txnHelp,
		Example: `  cat transfer.txt | concordat txn
  concordat txn --serializable --address 127.0.0.1:7500,127.0.0.1:7501
  concordat txn --read-only --read-from secondary --consistency BEFORE`,
		Args: exactArgs(),
	}
	f.timeout = duration(time.Minute)
	f.registerTimeout(cmd, "how long all of it may take")
	f.registerForms(cmd)
	f.registerTerms(cmd)
	f.registerFrom(cmd)
	cmd.Flags().BoolVar(&f.serializable, "serializable", false, "what was read counts for conflicts, too")
	cmd.Flags().BoolVar(&f.readOnly, "read-only", false, "only read, where --read-from says")
	cmd.RunE = interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		ctx, cancel := f.bound(ctx)
		defer cancel()
		r, err := f.openRouted(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		if r.options, err = f.terms(r.options); err != nil {
			return err
		}
		s := &script{flags: &f, group: r, out: cmd.OutOrStdout()}
		return unknownHint(typed(s.run(ctx, cmd.InOrStdin())))
	})
	return cmd
}

// terms adds to options what the flags say of the transactions.
func (f *txnFlags) terms(options []client.Option) ([]client.Option, error) {
	if f.id != "" {
		id, err := parseID(f.id)
		if err != nil {
			return nil, err
		}
		options = append(options, client.WithID(id))
	}
	if f.gtid != "" {
		options = append(options, client.WithGTID(f.gtid))
	}
	if f.tag != "" || f.weight != 0 {
		options = append(options, client.WithTag(f.tag, int(f.weight)))
	}
	if f.serializable {
		options = append(options, client.Serializable())
	}
	if f.readOnly {
		options = append(options, client.ReadOnly())
	}
	return options, nil
}

// script is a run of concordat txn.
type script struct {
	flags *txnFlags
	group *routedStore
	out   io.Writer

	tx    *client.Tx // nil where none has begun
	begun int        // how many transactions have begun
	list  []step     // of a script without begin
}

// maxLine is the longest line of a script, in bytes.
const maxLine = 32 << 20

// run reads lines until the end of the input or an error.
func (s *script) run(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for number := 1; lines.Scan(); number++ {
		st, ok, err := s.flags.parseStep(lines.Text())
		if err == nil && ok {
			err = s.take(ctx, &st)
		}
		if err != nil {
			s.drop()
			return lineError(number, err)
		}
	}
	open := s.tx != nil
	s.drop()
	if err := lines.Err(); err != nil {
		return err
	}
	if open {
		return errors.New("the input ended before a commit; the transaction was rolled back")
	}
	if len(s.list) == 0 {
		return nil
	}
	return s.runList(ctx)
}

// drop rolls the transaction back that is open.
func (s *script) drop() {
	if s.tx != nil {
		_ = s.tx.Rollback() // nothing is left of it in any case
		s.tx = nil
	}
}

// take runs a step, or keeps it for the end.
func (s *script) take(ctx context.Context, st *step) (err error) {
	switch {
	case st.verb == "begin" && (s.tx != nil || len(s.list) > 0):
		return usagef("a transaction is open; commit it first, or roll it back")
	case st.verb == "begin" && s.begun > 0 && s.flags.id != "":
		return usagef("--id is for one transaction; this is another one")
	case st.verb == "begin":
		s.begun++
		s.tx, err = s.group.Begin(ctx, s.group.options...)
		return err
	case s.flags.readOnly && (st.verb == "put" || st.verb == "delete" || st.verb == "add"):
		return usagef("%s writes, and the transaction is --read-only", st.verb)
	case s.tx != nil:
		return s.runStep(ctx, st)
	case s.begun > 0 || st.verb == "commit" || st.verb == "rollback" || st.verb == "scan":
		return usagef("%s needs a begin before it", st.verb)
	}
	s.list = append(s.list, *st)
	return nil
}

// runStep runs a step of the transaction that is open.
func (s *script) runStep(ctx context.Context, st *step) error {
	switch st.verb {
	case "scan":
		pairs, err := s.tx.Scan(ctx, st.key, st.value, 0, client.On(st.on()))
		if err != nil {
			return err
		}
		for _, p := range pairs {
			if err := s.flags.printPair(s.out, p.Key, p.Value); err != nil {
				return err
			}
		}
		return nil
	case "rollback":
		s.drop()
		return nil
	case "commit":
		tx := s.tx
		s.tx = nil
		done, err := tx.Commit(ctx)
		if err != nil {
			return err
		}
		return s.printCommit(&done)
	}
	values, err := s.tx.Run(ctx, st.op())
	if err != nil || st.verb != "get" {
		return err
	}
	return s.printGet(st.key, values[0])
}

// on is the table of a step.
func (st *step) on() client.Table {
	return client.Table{Schema: st.table.GetSchema(), Name: st.table.GetName()}
}

// op is a step that a whole transaction can have, too.
func (st *step) op() client.Op {
	var op client.Op
	switch st.verb {
	case "get":
		op = client.OpGet(st.key)
	case "put":
		op = client.OpPut(st.key, st.value)
	case "delete":
		op = client.OpDelete(st.key)
	case "add":
		op = client.OpAdd(st.key, st.delta)
	default:
		panic("step " + st.verb + " is no operation")
	}
	return op.On(st.on())
}

// runList runs a script without begin.
func (s *script) runList(ctx context.Context) error {
	var ops []client.Op
	for i := range s.list {
		ops = append(ops, s.list[i].op())
	}
	r, err := s.group.Txn(ctx, ops, s.group.options...)
	if err != nil {
		return err
	}
	for i, st := range s.list {
		if st.verb != "get" || i >= len(r.Values) {
			continue // it had committed before, and what it has read is not known any more
		}
		if err := s.printGet(st.key, r.Values[i]); err != nil {
			return err
		}
	}
	return s.printCommit(&r.Commit)
}

// printGet prints what a get has read: the key alone if there is none.
func (s *script) printGet(key []byte, v client.Value) error {
	switch {
	case v.Found:
		return s.flags.printPair(s.out, key, v.Value)
	case s.flags.json:
		return s.flags.encode(s.out, map[string]any{"key": s.flags.print(key), "found": false}, key)
	}
	_, err := fmt.Fprintln(s.out, s.flags.quote(key))
	return err
}

// printCommit prints the GTID of a transaction that has one.
func (s *script) printCommit(c *client.Commit) error {
	if c.GTID.IsZero() {
		return nil
	}
	if s.flags.json {
		return json.NewEncoder(s.out).Encode(writtenBy(c))
	}
	_, err := fmt.Fprintln(s.out, c.GTID)
	return err
}
