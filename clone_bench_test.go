package concordat

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/pebblekv"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// exporter is a member that does nothing but give copies.
type exporter struct {
	transport.Handler
	export applier.Export
}

func (e exporter) Clone(ctx context.Context, req *peerpb.CloneRequest, w io.Writer) error {
	return e.export.WriteTo(ctx, w, int64(req.GetOffset()))
}

// BenchmarkClone measures a copy of a store of 300 MB that does not compress,
// from the donor's disk over loopback TCP to the recipient's, with all syncs.
// Both are in this process: cpu-s/GB is of both together.
func BenchmarkClone(b *testing.B) {
	donor, err := pebblekv.Open(filepath.Join(b.TempDir(), "donor"), pebblekv.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer donor.Close()
	fillStore(b, donor, 300<<20)
	x, err := donor.NewExport()
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	id := gcs.Identity{Group: gtid.UUID{1}, Incarnation: gtid.UUID{2}, Member: gtid.UUID{3}, RaftID: 4, Session: 1}
	tr, err := transport.New(transport.Config{
		Identity: id, Address: listener.Addr().String(), Listener: listener, Handler: exporter{export: x},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer tr.Close()
	copyOver := func(r io.ReadCloser, to applier.Engine) {
		if _, err := to.Import(b.Context(), r); err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
	for name, open := range map[string]func() io.ReadCloser{
		"loopback": func() io.ReadCloser {
			return transport.Clone(b.Context(), listener.Addr().String(), &peerpb.CloneRequest{Identity: tr.Identity()}, transport.CloneOptions{})
		},
		"pipe": func() io.ReadCloser {
			r, w := io.Pipe()
			go func() { _ = w.CloseWithError(x.WriteTo(b.Context(), w, 0)) }()
			return r
		},
	} {
		b.Run(name, func(b *testing.B) {
			to, err := pebblekv.Open(filepath.Join(b.TempDir(), "recipient"), pebblekv.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer to.Close()
			b.SetBytes(x.Size())
			b.ReportAllocs()
			before := cpuSeconds(b)
			b.ResetTimer()
			for range b.N {
				copyOver(open(), to)
			}
			b.StopTimer()
			b.ReportMetric((cpuSeconds(b)-before)/(float64(x.Size())*float64(b.N)/1e9), "cpu-s/GB")
		})
	}
}

func fillStore(b *testing.B, e applier.Engine, size int) {
	b.Helper()
	rng := rand.NewChaCha8([32]byte{})
	value := make([]byte, 64<<10)
	for index := uint64(1); size > 0; index++ {
		var payload []byte
		for i := range 16 {
			_, _ = rng.Read(value) // never fails
			payload = applier.AppendMutation(payload, applier.Mutation{
				Op: applier.OpPut, Table: applier.Table{Schema: "bench", Name: "clone"},
				Key: fmt.Appendf(nil, "%08d-%02d", index, i), Value: value,
			})
			size -= len(value)
		}
		err := e.Apply(applier.Batch{Transactions: []applier.Transaction{{Payload: payload}}, To: applier.Position{Index: index}})
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := e.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// cpuSeconds returns how long this process has used processors.
func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
