package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

func newConflictsCommand() *cobra.Command {
	var f clientFlags
	var limit uint32
	cmd := &cobra.Command{
		Use:   "conflicts",
		Short: "Show what transactions were lost for lately",
		Long: `Show the tables and keys for which transactions were lost in the last ten
minutes or so, hottest first; whose transactions lost to whose; what the loser
and the winner had done (write, delta for an addition, reference, read); and how
far the loser had come:

  refused  it was sent to the group, and certification refused it
  doomed   it was still running when what it would lose to came
  held     it was held back for another one of its own node, which committed

A node sees all that the group refuses, and early losses only of its own
transactions. Name several nodes, and each is shown. Keys are shown up to 64
bytes; what is not plain text is quoted, and a quoted key with … behind it
stands for all that begin so. A dash stands for what the node does not know,
such as the keys of a range. Counts like 7-9 are known that far only.`,
		Example: `  concordat conflicts
  concordat conflicts --limit 3 --address 127.0.0.1:7500,127.0.0.1:7501,127.0.0.1:7502
  concordat conflicts --limit 0 --json`,
		Args: exactArgs(),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.Flags().Uint32Var(&limit, "limit", 10, "the most lines in each list; 0 for all")
	cmd.RunE = interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(f.timeout))
		defer cancel()
		answers, err := askAll(ctx, &f, func(ctx context.Context, c *server.Client) (*adminpb.ConflictsResponse, error) {
			return c.Conflicts(ctx, &adminpb.ConflictsRequest{Limit: limit})
		})
		if len(answers) == 0 {
			return err
		}
		if f.json {
			return errors.Join(err, printConflictsJSON(cmd.OutOrStdout(), answers))
		}
		for i, a := range answers {
			if i > 0 {
				say(cmd.OutOrStdout(), "\n")
			}
			err = errors.Join(err, printConflicts(cmd.OutOrStdout(), a))
		}
		return err
	})
	return cmd
}

func printConflicts(w io.Writer, r *adminpb.ConflictsResponse) error {
	covered := time.Duration(r.GetCoveredNanos())
	say(w, "member %s: %s in %v, %s per second\n", r.GetMember(), plural(r.GetTotal(), "conflict"),
		covered.Round(time.Second), perSecond(r.GetRate()))
	if r.GetTotal() == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	say(t, "\nTABLE\tCOUNT\tPER SECOND\n")
	for _, l := range r.GetTables() {
		say(t, "%s\t%d\t%s\n", nameOrDash(l.GetTable()), l.GetCount(), perSecond(l.GetRate()))
	}
	others(t, r.GetOtherTables())
	say(t, "\nTABLE\tKEY\tCOUNT\tPER SECOND\n")
	for _, l := range r.GetKeys() {
		say(t, "%s\t%s\t%s\t%s\n", nameOrDash(l.GetTable()), keyText(l), countText(l), perSecond(l.GetRate()))
	}
	say(t, "\nLOSER\tWINNER\tCOUNT\tPER SECOND\n")
	for _, l := range r.GetPairs() {
		say(t, "%s\t%s\t%d\t%s\n", orDash(l.GetLoser()), orDash(l.GetWinner()), l.GetCount(), perSecond(l.GetRate()))
	}
	others(t, r.GetOtherPairs())
	say(t, "\nLOSER DID\tWINNER DID\tCOUNT\n")
	for _, l := range r.GetKinds() {
		say(t, "%s\t%s\t%d\n", word(l.GetIncoming(), "KIND_"), word(l.GetEarlier(), "KIND_"), l.GetCount())
	}
	say(t, "\nLOSER WAS\tCOUNT\n")
	for _, l := range r.GetPlaces() {
		say(t, "%s\t%d\n", word(l.GetWhere(), "WHERE_"), l.GetCount())
	}
	return t.Flush()
}

// others is the last line of a list that does not hold everything.
func others(w io.Writer, count uint64) {
	if count > 0 {
		say(w, "(others)\t%d\n", count)
	}
}

func plural(n uint64, what string) string {
	switch n {
	case 0:
		return "no " + what + "s"
	case 1:
		return "1 " + what
	}
	return strconv.FormatUint(n, 10) + " " + what + "s"
}

func perSecond(rate float64) string { return strconv.FormatFloat(rate, 'f', 2, 64) }

// nameOrDash shows a table, and tells one that looks strange from the layout.
func nameOrDash(table string) string {
	if table == "" {
		return "-"
	}
	return new(kvFlags).quote([]byte(table))
}

func keyText(l *adminpb.ConflictKey) string {
	key := l.GetKey()
	switch {
	case l.GetCut():
		return strconv.Quote(string(key)) + "…"
	case len(key) == 0:
		return "-"
	case string(key) == "-":
		return `"-"`
	}
	return new(kvFlags).quote(key)
}

// countText shows how often a key came, as far as that is known.
func countText(l *adminpb.ConflictKey) string {
	most := strconv.FormatUint(l.GetCount(), 10)
	if l.GetOvercount() == 0 {
		return most
	}
	return strconv.FormatUint(l.GetCount()-min(l.GetOvercount(), l.GetCount()), 10) + "-" + most
}

// conflictsJSON is what conflicts --json prints of each node. Its fields stay.
type conflictsJSON struct {
	Member      string              `json:"member"`
	Seconds     float64             `json:"seconds"`
	Total       uint64              `json:"total"`
	PerSecond   float64             `json:"per_second"`
	Tables      []conflictTableJSON `json:"tables"`
	OtherTables uint64              `json:"other_tables"`
	Keys        []conflictKeyJSON   `json:"keys"`
	Pairs       []conflictPairJSON  `json:"pairs"`
	OtherPairs  uint64              `json:"other_pairs"`
	Kinds       []conflictKindJSON  `json:"kinds"`
	Places      map[string]uint64   `json:"places"`
}

type conflictTableJSON struct {
	Table     string  `json:"table"`
	Count     uint64  `json:"count"`
	PerSecond float64 `json:"per_second"`
}

// conflictKeyJSON has a key as text if it is text, and in hexadecimal always: a
// report must not fail for one key, or for one that was cut in a character.
type conflictKeyJSON struct {
	Table     string  `json:"table"`
	Key       *string `json:"key,omitempty"`
	KeyHex    string  `json:"key_hex"`
	Cut       bool    `json:"cut,omitempty"`
	Count     uint64  `json:"count"`
	Overcount uint64  `json:"overcount"`
	PerSecond float64 `json:"per_second"`
}

type conflictPairJSON struct {
	Loser     string  `json:"loser"`
	Winner    string  `json:"winner"`
	Count     uint64  `json:"count"`
	PerSecond float64 `json:"per_second"`
}

type conflictKindJSON struct {
	Loser  string `json:"loser"`
	Winner string `json:"winner"`
	Count  uint64 `json:"count"`
}

func printConflictsJSON(w io.Writer, answers []*adminpb.ConflictsResponse) error {
	out := struct {
		Members []conflictsJSON `json:"members"`
	}{}
	for _, r := range answers {
		out.Members = append(out.Members, conflictsOf(r))
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}

func conflictsOf(r *adminpb.ConflictsResponse) conflictsJSON {
	out := conflictsJSON{
		Member: r.GetMember(), Seconds: time.Duration(r.GetCoveredNanos()).Seconds(),
		Total: r.GetTotal(), PerSecond: r.GetRate(), OtherTables: r.GetOtherTables(), OtherPairs: r.GetOtherPairs(),
		Tables: []conflictTableJSON{}, Keys: []conflictKeyJSON{}, Pairs: []conflictPairJSON{}, Kinds: []conflictKindJSON{},
		Places: map[string]uint64{},
	}
	for _, l := range r.GetTables() {
		out.Tables = append(out.Tables, conflictTableJSON{l.GetTable(), l.GetCount(), l.GetRate()})
	}
	for _, l := range r.GetKeys() {
		k := conflictKeyJSON{
			Table: l.GetTable(), KeyHex: hex.EncodeToString(l.GetKey()), Cut: l.GetCut(),
			Count: l.GetCount(), Overcount: l.GetOvercount(), PerSecond: l.GetRate(),
		}
		if utf8.Valid(l.GetKey()) {
			k.Key = new(string(l.GetKey()))
		}
		out.Keys = append(out.Keys, k)
	}
	for _, l := range r.GetPairs() {
		out.Pairs = append(out.Pairs, conflictPairJSON{l.GetLoser(), l.GetWinner(), l.GetCount(), l.GetRate()})
	}
	for _, l := range r.GetKinds() {
		out.Kinds = append(out.Kinds, conflictKindJSON{word(l.GetIncoming(), "KIND_"), word(l.GetEarlier(), "KIND_"), l.GetCount()})
	}
	for _, l := range r.GetPlaces() {
		out.Places[word(l.GetWhere(), "WHERE_")] = l.GetCount()
	}
	return out
}
