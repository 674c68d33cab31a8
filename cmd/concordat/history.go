package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

func newHistoryCommand() *cobra.Command {
	var f clientFlags
	var views, epochs, follow bool
	var after uint64
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show what happened to the group, and its views",
		Long: `Show what happened to the group and to a node since the node was started, as the
node saw it: views, states, suspicions, loss of the quorum, copying, and why. The
last 1,024 events are kept; each has a number, and --after shows those that came
later.

--views shows the last 64 views of the group instead, and --epochs the last 64
times that who may write has changed, and why: all members agree on them, and
they outlive a restart. With --json there is one object on each line.`,
		Example: `  concordat history
  concordat history --after 100 --json
  concordat history --views
  concordat history --epochs
  concordat history --follow --address 127.0.0.1:7501`,
		Args: func(cmd *cobra.Command, args []string) error {
			if views && epochs {
				return usagef("--views and --epochs do not go together: ask for one after the other")
			}
			if (views || epochs) && follow {
				return usagef("--views or --epochs and --follow do not go together: new views and epochs are events as well")
			}
			return exactArgs()(cmd, args)
		},
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.Flags().BoolVar(&views, "views", false, "show the group's views")
	cmd.Flags().BoolVar(&epochs, "epochs", false, "show who might write in the group's epochs")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what happens, until a signal")
	cmd.Flags().Uint64Var(&after, "after", 0, "show the events after this `number`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if follow {
			f.timeout = 0
		}
		return f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
			p := historyPrinter{w: cmd.OutOrStdout(), json: f.json, views: views, epochs: epochs}
			err := readHistory(ctx, c, &adminpb.HistoryRequest{After: after, Follow: follow}, p.print)
			if !follow || ctx.Err() == nil {
				return err
			}
			return nil // a signal is how it ends
		})(cmd, args)
	}
	return cmd
}

// readHistory gives each part of a history to take, until it ends.
func readHistory(ctx context.Context, c *server.Client, r *adminpb.HistoryRequest, take func(*adminpb.HistoryResponse) error) error {
	stream, err := c.History(ctx, r)
	if err != nil {
		return err
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = take(part)
		}
		if err != nil {
			return err
		}
	}
}

// eventJSON and viewRecordJSON are lines of history --json. Their fields stay.
type eventJSON struct {
	Seq    uint64    `json:"seq"`
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"`
	Member string    `json:"member,omitempty"`
	View   string    `json:"view,omitempty"`
	Text   string    `json:"text"`
}

type viewRecordJSON struct {
	View        string `json:"view"`
	Index       uint64 `json:"index"`
	Incarnation string `json:"incarnation"`
	Cause       string `json:"cause"`
	Reason      string `json:"reason,omitempty"`
}

// epochJSON is a line of history --epochs --json. Its fields stay.
type epochJSON struct {
	Epoch   uint64 `json:"epoch"`
	Index   uint64 `json:"index"`
	Mode    string `json:"mode"`
	Primary string `json:"primary,omitempty"`
	Cause   string `json:"cause"`
	Reason  string `json:"reason,omitempty"`
}

// historyPrinter prints a history as it comes.
type historyPrinter struct {
	w                   io.Writer
	json, views, epochs bool
}

func (p *historyPrinter) print(part *adminpb.HistoryResponse) error {
	if p.views {
		return p.printViews(part.GetViews())
	}
	if p.epochs {
		return p.printEpochs(part.GetEpochs())
	}
	for _, e := range part.GetEvents() {
		at := time.Unix(0, e.GetUnixNanos()).UTC()
		if p.json {
			line := eventJSON{e.GetSeq(), at, e.GetKind(), e.GetMember(), e.GetView(), e.GetText()}
			if err := json.NewEncoder(p.w).Encode(line); err != nil {
				return err
			}
			continue
		}
		// Lines that come one by one cannot be laid out together. The widest
		// kind has 17 letters.
		say(p.w, "%5d  %s  view %-4s  %-17s  %-36s  %s\n", e.GetSeq(), at.Format("2006-01-02T15:04:05.000Z07:00"),
			orDash(e.GetView()), e.GetKind(), orDash(e.GetMember()), e.GetText())
	}
	return nil
}

func (p *historyPrinter) printViews(views []*adminpb.ViewRecord) error {
	if p.json {
		for _, v := range views {
			line := viewRecordJSON{v.GetId(), v.GetIndex(), v.GetIncarnation(), v.GetCause(), v.GetReason()}
			if err := json.NewEncoder(p.w).Encode(line); err != nil {
				return err
			}
		}
		return nil
	}
	if len(views) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	say(t, "VIEW\tINDEX\tINCARNATION\tCAUSE\tREASON\n")
	for _, v := range views {
		say(t, "%s\t%d\t%s\t%s\t%s\n", v.GetId(), v.GetIndex(), v.GetIncarnation(), v.GetCause(), orDash(v.GetReason()))
	}
	return t.Flush()
}

func (p *historyPrinter) printEpochs(epochs []*adminpb.EpochRecord) error {
	if p.json {
		for _, e := range epochs {
			line := epochJSON{e.GetNumber(), e.GetIndex(), modeName(e.GetMode()), e.GetPrimary(), e.GetCause(), e.GetReason()}
			if err := json.NewEncoder(p.w).Encode(line); err != nil {
				return err
			}
		}
		return nil
	}
	if len(epochs) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	say(t, "EPOCH\tINDEX\tMODE\tPRIMARY\tCAUSE\tREASON\n")
	for _, e := range epochs {
		say(t, "%d\t%d\t%s\t%s\t%s\t%s\n", e.GetNumber(), e.GetIndex(), modeName(e.GetMode()), orDash(e.GetPrimary()), e.GetCause(), orDash(e.GetReason()))
	}
	return t.Flush()
}
