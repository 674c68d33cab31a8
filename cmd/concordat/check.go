package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

func newCheckCommand() *cobra.Command {
	parsed := defaultSettings()
	flags := parsed.flags()
	var file string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Tell whether the group would accept a directory, and why not",
		Long: `Tell whether the group would accept a directory, and why not, without starting a
node: the seeds, and the members that the directory knows, are asked, and nothing
is changed there or here. The data of a directory can be older than its log, from
which a member that starts brings them up to date: "data up to" and "executed
there" are what the data alone show. Nobody may run on the directory. The settings are those
of concordat node; --start-timeout bounds the check. One that would be refused, or
for which nobody can be asked, is exit code 7.`,
		Example: `  concordat check --group 5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50 --dir /tmp/m2 --seeds 127.0.0.1:7400 --listen 127.0.0.1:7401
  concordat check --config node.toml --json`,
		Args: exactArgs(),
		RunE: interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			s, err := resolve(flags, file, os.LookupEnv)
			if err != nil {
				return err
			}
			return runCheck(ctx, &s, cmd.OutOrStdout())
		}),
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&file, "config", "", "TOML `file` with settings")
	cmd.Flags().AddFlagSet(flags)
	return cmd
}

// checkJSON is what check --json prints. Its fields stay.
type checkJSON struct {
	Dir         string   `json:"dir"`
	Accepted    bool     `json:"accepted"`
	Reasons     []string `json:"reasons"`
	New         bool     `json:"new"`
	Group       string   `json:"group"`
	Incarnation string   `json:"incarnation,omitempty"`
	Member      string   `json:"member,omitempty"`
	First       uint64   `json:"first"`
	Last        uint64   `json:"last"`
	Applied     uint64   `json:"applied"`  // up to where the data go; the log may go on
	Executed    string   `json:"executed"` // up to there
	Errant      string   `json:"errant,omitempty"`
}

func checkOf(dir string, r *concordat.CheckReport) checkJSON {
	return checkJSON{
		Dir: dir, Accepted: r.Accepted, Reasons: append([]string{}, r.Reasons...), New: r.New, Group: r.Group.String(),
		Incarnation: uuidOrNone(r.Incarnation), Member: uuidOrNone(r.Member), First: r.First, Last: r.Last, Applied: r.Applied,
		Executed: oneLine(r.Executed.String()), Errant: oneLine(r.Errant.String()),
	}
}

func uuidOrNone(u gtid.UUID) string {
	if u.IsZero() {
		return ""
	}
	return u.String()
}

func runCheck(ctx context.Context, s *nodeSettings, out io.Writer) error {
	if t := time.Duration(s.StartTimeout); t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t)
		defer cancel()
	}
	cfg := s.config()
	if s.TLSCert != "" {
		var err error
		if cfg.TLS, err = (concordat.TLSFiles{Cert: s.TLSCert, Key: s.TLSKey, CA: s.TLSCA}).Load(); err != nil {
			return &usageError{err}
		}
	}
	r, err := concordat.Check(ctx, cfg)
	if err != nil {
		return err
	}
	if s.JSON {
		err = printJSON(out, checkOf(s.Dir, &r))
	} else {
		printCheck(out, s.Dir, &r)
	}
	if err == nil && !r.Accepted {
		err = fmt.Errorf("%w: %s would not be accepted as things are", concordat.ErrJoinRefused, s.Dir)
	}
	return err
}

func printCheck(w io.Writer, dir string, r *concordat.CheckReport) {
	say(w, "%s: %s\n", dir, map[bool]string{true: "accepted", false: "not accepted"}[r.Accepted])
	for _, reason := range r.Reasons {
		say(w, "  %s\n", reason)
	}
	if r.New {
		say(w, "\nthere is no member in it yet\n")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	say(t, "\ngroup\t%s\n", r.Group)
	say(t, "incarnation\t%s\n", orDash(uuidOrNone(r.Incarnation)))
	say(t, "member\t%s\n", r.Member)
	say(t, "log\t%d to %d\n", r.First, r.Last)
	say(t, "data up to\t%d%s\n", r.Applied, map[bool]string{true: "; what follows is taken from the log"}[r.Applied < r.Last])
	say(t, "executed there\t%s\n", orDash(oneLine(r.Executed.String())))
	say(t, "only here\t%s\n", orDash(oneLine(r.Errant.String())))
	_ = t.Flush() // nobody may be reading
}
