package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/changes/v1"
)

const dumpHelp = `Write the whole state of a node to a file, as it is at one moment: a backup. The
group goes on meanwhile. A secondary is the one to ask: a dump takes its disk and its
network for a while, and nothing else.

It prints what the dump contains: concordat changes --after takes these GTIDs and
goes on from there, concordat restore makes a new group of the file. The file appears
when it is complete and synced.`

func newDumpCommand() *cobra.Command {
	var f clientFlags
	var out string
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Write the state of a node to a file: a backup",
		Long:  dumpHelp,
		Example: `  concordat dump --out backup.dump --address 127.0.0.1:7501
  concordat dump --out backup.dump --json`,
		Args: exactArgs(),
	}
	f.registerWaiting(cmd, "for the dump")
	f.registerJSON(cmd)
	cmd.Flags().StringVar(&out, "out", "", "`file` to write; it must not exist")
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
		if out == "" {
			return usagef("name a file with --out")
		}
		info, err := dumpTo(ctx, c, out)
		if err != nil {
			return err
		}
		return printDump(cmd.OutOrStdout(), f.json, dumpOf(&info))
	})
	return cmd
}

// dumpTo writes a dump of a node to a file that must not exist.
func dumpTo(ctx context.Context, c *server.Client, path string) (info concordat.DumpInfo, err error) {
	if _, err := os.Lstat(path); err == nil {
		return info, usagef("%s exists; name another file", path)
	}
	stream, err := c.Dump(ctx, &changespb.DumpRequest{})
	if err != nil {
		return info, err
	}
	part := path + ".part"
	file, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return info, err
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			_ = os.Remove(part)
		}
	}()
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			_, err = file.Write(m.GetPiece())
		}
		if err != nil {
			return info, err
		}
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return info, err
	}
	if info, err = concordat.ReadDumpInfo(file); err != nil {
		return info, err
	}
	if err := errors.Join(file.Sync(), os.Rename(part, path)); err != nil {
		return info, err
	}
	return info, syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// dumpJSON is what dump --json and restore --json print. Its fields stay.
type dumpJSON struct {
	Group    string    `json:"group"` // from which it comes
	Member   string    `json:"member"`
	Time     time.Time `json:"time"`
	Index    uint64    `json:"index"`
	Executed string    `json:"executed"`
	Digest   string    `json:"digest"`
	// Applied is how many changes were applied on the dump; of restore only.
	Applied *uint64 `json:"applied,omitempty"`
}

func dumpOf(d *concordat.DumpInfo) dumpJSON {
	return dumpJSON{
		Group: d.Group.String(), Member: d.Member.String(), Time: d.Time.UTC(), Index: d.Position.Index,
		Executed: d.Position.Executed.String(), Digest: d.Digest.String(),
	}
}

func printDump(w io.Writer, asJSON bool, d dumpJSON) error {
	if asJSON {
		return json.NewEncoder(w).Encode(d)
	}
	say(w, "group     %s\nmember    %s\ntime      %s\nindex     %d\nexecuted  %s\ndigest    %s\n",
		d.Group, d.Member, d.Time.Format(time.RFC3339Nano), d.Index, d.Executed, d.Digest)
	if d.Applied != nil {
		say(w, "applied   %d\n", *d.Applied)
	}
	return nil
}

const restoreHelp = `Make of a dump the data of a node that founds a new group. The node is then started
in that directory with --bootstrap, and with a group name of its own choice, that of
the former group or another one; the executed GTIDs go on. Further nodes join it with
empty directories and copy the state.

With --changes what archives have beyond the dump is applied on it, archive after
archive (concordat changes --out makes them); with --until no further than the
transaction with this GTID, and exactly so far: a point in time. A gap, or a GTID that
is not there, is an error. Then, and after an interruption, empty the directory and
restore again.

It prints what the data contain, and their digest: concordat status prints that of
nodes.`

func newRestoreCommand() *cobra.Command {
	var dir, from, until string
	var changes []string
	var asJSON, oldValues bool
	var retention size
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Make of a dump, and of archived changes, the data of a new group",
		Long:  restoreHelp,
		Example: `  concordat restore --dir /var/lib/concordat --from backup.dump
  concordat restore --dir /tmp/r1 --from backup.dump --changes archive.json --until 5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50:4711
  concordat node --group 7d0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50 --dir /tmp/r1 --bootstrap`,
		Args: exactArgs(),
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&dir, "dir", "", "new or empty `directory`, that of the node")
	fs.StringVar(&from, "from", "", "`file` of the dump")
	fs.StringSliceVar(&changes, "changes", nil, "`files` of archived changes, the oldest first")
	fs.StringVar(&until, "until", "", "`GTID` of the last transaction to apply; empty: all")
	fs.Var(&retention, "change-retention", "that of the node: keep the changes in the dump, and those applied")
	fs.BoolVar(&oldValues, "change-old-values", false, "and the values before each that is applied")
	fs.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) (err error) {
		o := concordat.RestoreOptions{Dir: dir, ChangeRetentionBytes: int64(retention), ChangeOldValues: oldValues}
		switch {
		case dir == "" || from == "":
			return usagef("name the directory with --dir and the dump with --from")
		case until != "" && len(changes) == 0:
			return usagef("--until needs --changes: a dump is of one moment")
		case until != "":
			if o.Until, err = gtid.Parse(until); err != nil {
				return usagef("--until: %w", err)
			}
		}
		if len(changes) > 0 {
			o.Changes = readArchives(changes)
		}
		file, err := os.Open(from)
		if err != nil {
			return err
		}
		defer file.Close()
		r, err := concordat.Restore(ctx, file, o)
		if err != nil {
			return err
		}
		shown := dumpOf(&r.Dump)
		shown.Index, shown.Executed, shown.Digest, shown.Applied = r.Position.Index, r.Position.Executed.String(), r.Digest.String(), &r.Applied
		return printDump(cmd.OutOrStdout(), asJSON, shown)
	})
	return cmd
}

// readArchives yields the changes of archives, one file after the other, for
// [concordat.Restore].
func readArchives(paths []string) iter.Seq2[concordat.Archived, error] {
	return func(yield func(concordat.Archived, error) bool) {
		for _, path := range paths {
			if err := readArchive(path, yield); err != nil {
				if !errors.Is(err, errEnough) {
					yield(concordat.Archived{}, err)
				}
				return
			}
		}
	}
}

// errEnough ends the reading when nobody wants more.
var errEnough = errors.New("enough")

func readArchive(path string, yield func(concordat.Archived, error) bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	r := &archiveReader{r: bufio.NewReaderSize(file, 1<<20), name: path}
	head, err := r.head()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is empty, and no archive", path)
	}
	if err != nil {
		return err
	}
	after, err := gtid.ParseSet(head.After)
	if err != nil {
		return fmt.Errorf("%s: after: %w", path, err)
	}
	for {
		c, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !yield(concordat.Archived{Change: c, After: after}, nil) {
			return errEnough
		}
	}
}
