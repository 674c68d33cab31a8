package concordat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// errant returns the transactions that only this member has: those after where
// its history and the group's part, found in the log, and those whose GTIDs the
// group does not know, which may lie before what the log still holds. Each that
// the log holds is given to each. Where the log does not go back to the fork
// there may be others, whose GTIDs the group has given to transactions of its
// own: then the result is marked as incomplete.
func (n *Node) errant(ctx context.Context, d DivergedError, each func(*replica.Judged) error) (*DivergedError, error) {
	cfg, err := n.replicaConfig()
	if err != nil {
		return nil, err
	}
	from, err := n.checkpointBefore(d.Common, cfg.Group.Checkpoint)
	if err != nil {
		return nil, err
	}
	d.Incomplete = from.Index > d.Common
	_, err = n.replay(ctx, d.Common, func(j *replica.Judged) error {
		if j.Index <= d.Common || j.Verdict.Outcome != certifier.Certified {
			return nil
		}
		d.Extra = d.Extra.Add(j.Verdict.GTID)
		if j.Bulk != nil {
			if j.Payload, err = j.Bulk.Read(n.log); err != nil {
				return err
			}
		}
		return each(j)
	})
	return &d, err
}

// discardedLine is a transaction in the file of those given up.
type discardedLine struct {
	GTID    string           `json:"gtid"`
	ID      string           `json:"id"`
	Index   uint64           `json:"log_index"`
	Changes []discardedWrite `json:"changes,omitempty"`
	// Payload is what an engine of the program's own would have applied.
	Payload []byte `json:"payload,omitempty"`
}

// discardedWrite is one change. Key and value are in text where they are that.
type discardedWrite struct {
	Table    string  `json:"table"`
	Op       string  `json:"op"`
	Key      *string `json:"key,omitempty"`
	KeyRaw   []byte  `json:"key_base64,omitempty"`
	Value    *string `json:"value,omitempty"`
	ValueRaw []byte  `json:"value_base64,omitempty"`
	Add      *int64  `json:"add,omitempty"`
}

func textOrRaw(b []byte) (text *string, raw []byte) {
	if utf8.Valid(b) {
		return new(string(b)), nil
	}
	return nil, b
}

// lineOf makes a transaction readable. The payload of an engine of the program's
// own is left as it is.
func lineOf(j *replica.Judged, ours bool) discardedLine {
	line := discardedLine{GTID: j.Verdict.GTID.String(), ID: j.ID.String(), Index: j.Index}
	if !ours {
		line.Payload = j.Payload
		return line
	}
	for m, err := range applier.Mutations(j.Payload) {
		if err != nil {
			line.Changes, line.Payload = nil, j.Payload
			break
		}
		w := discardedWrite{Table: m.Table.String()}
		w.Key, w.KeyRaw = textOrRaw(m.Key)
		switch m.Op {
		case applier.OpPut:
			w.Op = "put"
			w.Value, w.ValueRaw = textOrRaw(m.Value)
		case applier.OpDelete:
			w.Op = "delete"
		case applier.OpAdd:
			w.Op, w.Add = "add", new(m.Delta)
		}
		line.Changes = append(line.Changes, w)
	}
	return line
}

// saveErrant writes the transactions that only this member has to a file in
// its directory, and returns them and its name. The last lines say which of them
// the log no longer holds, and whether there may be others.
func (n *Node) saveErrant(ctx context.Context, diverged *DivergedError) (extra gtid.Set, path string, err error) {
	path = filepath.Join(n.cfg.Dir, "discarded-"+time.Now().UTC().Format("20060102T150405.000000000Z")+".jsonl")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return extra, "", fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	out := bufio.NewWriter(file)
	lines := json.NewEncoder(out)
	var held gtid.Set
	found, err := n.errant(ctx, *diverged, func(j *replica.Judged) error {
		held = held.Add(j.Verdict.GTID)
		return lines.Encode(lineOf(j, n.cfg.Engine == nil))
	})
	if err != nil {
		return extra, "", err
	}
	extra = found.Extra
	if rest := extra.Subtract(held); !rest.IsEmpty() {
		err = lines.Encode(map[string]string{"gtids_without_contents": rest.String()})
	}
	if found.Incomplete {
		err = errors.Join(err, lines.Encode(map[string]uint64{"incomplete_after_log_index": found.Common}))
	}
	err = errors.Join(err, out.Flush(), file.Sync(), syncDir(n.cfg.Dir))
	if err != nil {
		return extra, "", err
	}
	return extra, path, nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
