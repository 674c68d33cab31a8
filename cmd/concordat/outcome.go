package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

func newOutcomeCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "outcome ID",
		Short: "Tell what became of a transaction",
		Long: `Tell what became of a transaction, by the id that it was given with --id, or
that a message with exit code 5 names. Any node can be asked; the group
remembers as many ids as outcome-transactions in concordat settings says.

The exit code is 0 if it has committed. If it was refused, standard error says
why, and the exit code is the one that the write itself would have had. It is 5
if the node does not know: the line then says which part of the log it
remembers. What is not in there may have committed before, and may commit yet.`,
		Example: `  concordat outcome 9e107d9d-372b-4b68-8ad5-1f2c3d4e5f60
  concordat outcome 9e107d9d-372b-4b68-8ad5-1f2c3d4e5f60 --json`,
		Args: exactArgs("ID"),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, args []string) error {
		r, err := c.Outcome(ctx, &kvpb.OutcomeRequest{TransactionId: args[0]})
		if err != nil {
			return err
		}
		if err := f.printOutcome(cmd.OutOrStdout(), args[0], r); err != nil {
			return err
		}
		switch r.GetState() {
		case kvpb.OutcomeResponse_STATE_COMMITTED:
			return nil
		case kvpb.OutcomeResponse_STATE_REFUSED:
			if err := server.ErrorOf(r.GetReason()); err != nil {
				return err
			}
			return fmt.Errorf("refused, with the reason %v, which is not known here", r.GetReason())
		case kvpb.OutcomeResponse_STATE_UNSPECIFIED, kvpb.OutcomeResponse_STATE_UNKNOWN:
		}
		return fmt.Errorf("%w: %s; ask another node, or send it again with that --id", concordat.ErrOutcomeUnknown, args[0])
	})
	return cmd
}

// outcomeJSON is what outcome --json prints. Its fields stay.
type outcomeJSON struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	GTID   string `json:"gtid,omitempty"`
	Reason string `json:"reason,omitempty"`
	Winner string `json:"winner,omitempty"`
	Index  uint64 `json:"index,omitempty"`
	From   uint64 `json:"from"`
	Until  uint64 `json:"until"`
}

func (f *clientFlags) printOutcome(w io.Writer, id string, r *kvpb.OutcomeResponse) (err error) {
	state := word(r.GetState(), "STATE_")
	reason := ""
	if r.GetReason() != 0 {
		reason = word(r.GetReason(), "CODE_")
	}
	switch {
	case f.json:
		return json.NewEncoder(w).Encode(outcomeJSON{
			ID: id, State: state, GTID: r.GetGtid(), Reason: strings.ReplaceAll(reason, " ", "_"), Winner: r.GetWinner(),
			Index: r.GetIndex(), From: r.GetFrom(), Until: r.GetUntil(),
		})
	case r.GetState() == kvpb.OutcomeResponse_STATE_COMMITTED:
		_, err = fmt.Fprintf(w, "%s as %s at log index %d\n", state, r.GetGtid(), r.GetIndex())
	case r.GetState() != kvpb.OutcomeResponse_STATE_REFUSED:
		_, err = fmt.Fprintf(w, "%s: nothing with this id after log index %d and up to %d\n", state, r.GetFrom(), r.GetUntil())
	case r.GetWinner() != "":
		_, err = fmt.Fprintf(w, "%s at log index %d: %s with %s\n", state, r.GetIndex(), reason, r.GetWinner())
	default:
		_, err = fmt.Fprintf(w, "%s at log index %d: %s\n", state, r.GetIndex(), reason)
	}
	return err
}

// word returns the name of a value of a protobuf enum as it is shown: CONFLICT
// of CODE_ becomes conflict.
func word(v fmt.Stringer, prefix string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(v.String(), prefix), "_", " "))
}
