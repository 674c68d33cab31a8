package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// laggard is a member that was killed, and has missed transactions that are all in
// the others' logs. It comes back as often as is wished: they are written once, and
// its directory is kept as it was.
type laggard struct {
	*member

	g    *processes
	kept string // a copy of its directory
}

// leaveBehind kills a member that does not lead, and commits what it misses.
func (g *processes) leaveBehind(ctx context.Context, transactions int) (*laggard, error) {
	_, m, err := g.leads(ctx)
	if err != nil {
		return nil, err
	}
	l := &laggard{m, g, m.dir + ".kept"}
	if err := m.kill(); err != nil {
		return nil, err
	}
	if err := os.CopyFS(l.kept, os.DirFS(m.dir)); err != nil {
		return nil, err
	}
	return l, g.produce(ctx, m, transactions)
}

// comeBack starts the member once the group has expelled it, and kills it again. It
// returns how long it took until it was ONLINE, and the CPU time that it used for
// that.
func (l *laggard) comeBack(ctx context.Context, applyWorkers int) (took, cpu time.Duration, err error) {
	if err := l.g.gone(ctx, l.member); err != nil {
		return 0, 0, err
	}
	if err := errors.Join(os.RemoveAll(l.dir), os.CopyFS(l.dir, os.DirFS(l.kept))); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := l.g.again(ctx, l.member, applyWorkers); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	if cpu, err = processCPU(l.process.PID()); err != nil {
		return 0, 0, err
	}
	size, err := copiedBytes(ctx, l.client)
	if err == nil && size > 0 {
		err = fmt.Errorf("it came back with a copy of %d bytes: the log did not reach so far, give a larger one", size)
	}
	if err != nil {
		return 0, 0, err
	}
	return took, cpu, l.kill()
}

// copiedBytes returns how many bytes of another member's state a member has
// copied since it was started.
func copiedBytes(ctx context.Context, c *server.Client) (bytes uint64, err error) {
	stream, err := c.History(ctx, &adminpb.HistoryRequest{})
	if err != nil {
		return 0, err
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return bytes, nil
		}
		if err != nil {
			return bytes, err
		}
		for _, e := range part.GetEvents() {
			if e.GetKind() != "CLONE_FINISHED" {
				continue
			}
			_, text, _ := strings.Cut(e.GetText(), ", ")
			if _, err := fmt.Sscanf(text, "%d bytes", &bytes); err != nil {
				return 0, fmt.Errorf("size of the copy in %q: %w", e.GetText(), err)
			}
		}
	}
}
