package memengine

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/concordatdb/concordat/applier"
)

// ErrStream marks a file or an export that is not one of this engine, or not a
// whole one.
var ErrStream = errors.New("malformed state")

// A state as bytes, in the engine's file and as an export:
//
//	state := "CCDTMEM1" len body(8) body crc32c(4, of the body)
//	body  := len position(4) position payload
//
// with the position as in package applier, and a payload that puts every pair.
const magic = "CCDTMEM1"

// maxState bounds what is read, in bytes.
const maxState = 1 << 32

const fileName = "state"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(st *state) []byte {
	position, _ := st.position.AppendBinary(nil) // its error is always nil
	body := append(binary.BigEndian.AppendUint32(nil, uint32(len(position))), position...)
	st.pairs.Scan(func(p pair) bool {
		body = applier.AppendMutation(body, applier.Mutation{Op: applier.OpPut, Table: p.table, Key: p.key, Value: p.value})
		return true
	})
	b := binary.BigEndian.AppendUint64([]byte(magic), uint64(len(body)))
	b = append(b, body...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
}

func decode(r io.Reader) (*state, error) {
	head := make([]byte, len(magic)+8)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStream, err)
	}
	size := binary.BigEndian.Uint64(head[len(magic):])
	if string(head[:len(magic)]) != magic || size < 4 || size > maxState {
		return nil, fmt.Errorf("%w: head %q", ErrStream, head)
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(size)+4)) // grows as bytes come: a length that lies costs nothing
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStream, err)
	}
	if uint64(len(b)) != size+4 {
		return nil, fmt.Errorf("%w: %w", ErrStream, io.ErrUnexpectedEOF)
	}
	body := b[:size]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[size:]) {
		return nil, fmt.Errorf("%w: checksum does not match", ErrStream)
	}
	length := uint64(binary.BigEndian.Uint32(body))
	if length > size-4 {
		return nil, fmt.Errorf("%w: position of %d bytes", ErrStream, length)
	}
	at, rest, err := applier.DecodePosition(body[4 : 4+length])
	if err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%w: position: %d bytes too many, %w", ErrStream, len(rest), err)
	}
	empty := &state{pairs: newPairs()}
	x, err := fill(empty, body[4+length:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStream, err)
	}
	return x.state(at), nil
}

// fill puts the pairs of a payload into an empty state, each by itself: one execution
// would look through all that it has done for each.
func fill(empty *state, payload []byte) (*builder, error) {
	b := newBuilder(empty)
	for m, err := range applier.Mutations(payload) {
		x := &execution{}
		if err == nil {
			err = x.mutate(b.pairs, &m)
		}
		if err != nil {
			return nil, err
		}
		b.take(x)
	}
	return b, nil
}

// load reads the state in a directory, an empty one if there is none.
func load(dir string) (st *state, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return &state{pairs: newPairs()}, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return decode(f)
}

// save replaces the state in a directory: after a crash it is the old or the new
// one, whole.
func save(dir string, st *state) error {
	temporary := filepath.Join(dir, fileName+".new")
	if err := writeSynced(temporary, encode(st)); err != nil {
		return err
	}
	if err := os.Rename(temporary, filepath.Join(dir, fileName)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// export is a state on its way to another member.
type export struct {
	engine *Engine
	state  *state
	closed atomic.Bool
	once   sync.Once
	bytes  []byte
}

func (x *export) stream() []byte {
	x.once.Do(func() { x.bytes = encode(x.state) })
	return x.bytes
}

// Position implements [applier.Export].
func (x *export) Position() applier.Position { return x.state.position }

// Size implements [applier.Export].
func (x *export) Size() int64 { return int64(len(x.stream())) }

// WriteTo implements [applier.Export].
func (x *export) WriteTo(ctx context.Context, w io.Writer, from int64) error {
	if err := applier.CheckFrom(from, x.Size()); err != nil {
		return err
	}
	for rest := x.stream()[from:]; ; {
		if x.closed.Load() {
			return applier.ErrClosed
		}
		if err := cmp.Or(x.engine.check(), ctx.Err()); err != nil || len(rest) == 0 {
			return err
		}
		n, err := w.Write(rest[:min(len(rest), 64<<10)])
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
}

// Close implements [applier.Export].
func (x *export) Close() error {
	x.closed.Store(true)
	return nil
}
