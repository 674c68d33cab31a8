package server

import (
	"bufio"

	"google.golang.org/grpc"

	"github.com/concordatdb/concordat/proto/concordat/changes/v1"
)

// dumpPiece is how many bytes of a dump go into one message.
const dumpPiece = 256 << 10

// Dump implements changespb.ChangesServer.
func (c *changes) Dump(_ *changespb.DumpRequest, stream grpc.ServerStreamingServer[changespb.DumpResponse]) error {
	n, err := c.server.current()
	if err != nil {
		return toStatus(err)
	}
	ctx, cancel := c.server.streaming(stream.Context())
	defer cancel()
	out := bufio.NewWriterSize(pieces{stream}, dumpPiece)
	if _, err = n.Dump(ctx, out); err == nil {
		err = out.Flush()
	}
	return toStatus(c.server.ended(err))
}

// pieces sends what is written. gRPC does not keep it.
type pieces struct {
	stream grpc.ServerStreamingServer[changespb.DumpResponse]
}

func (p pieces) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(len(rest), dumpPiece)
		if err := p.stream.Send(&changespb.DumpResponse{Piece: rest[:n]}); err != nil {
			return len(b) - len(rest), err
		}
		rest = rest[n:]
	}
	return len(b), nil
}
