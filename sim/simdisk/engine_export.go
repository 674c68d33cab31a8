package simdisk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/concordatdb/concordat/applier"
)

// errEngineExport marks a stream that is no export of an [Engine], or not a
// whole one.
var errEngineExport = errors.New("simdisk: malformed export")

// The export of an Engine is one frame:
//
//	export := "CCDTSIM1" length(8) body(length) crc32c(4, of the body)
//	body   := len position(4) position changes payload
//
// with the position as in applier, the changes as in changes.go, and a payload that
// puts every pair.
const engineExportMagic = "CCDTSIM1"

// maxEngineExport bounds what Import takes, in bytes.
const maxEngineExport = 1 << 30

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// engineExport is a pinned state.
type engineExport struct {
	state  *engineState
	opened *life
	closed bool
	bytes  []byte // the stream, once somebody wanted it
}

// NewExport implements [applier.Engine].
func (e *Engine) NewExport() (applier.Export, error) {
	if e.opened.ended != nil {
		return nil, e.opened.ended
	}
	return &engineExport{state: e.visible(), opened: e.opened}, nil
}

// Position implements [applier.Export].
func (x *engineExport) Position() applier.Position { return x.state.position }

// Size implements [applier.Export].
func (x *engineExport) Size() int64 { return int64(len(x.stream())) }

// WriteTo implements [applier.Export].
func (x *engineExport) WriteTo(ctx context.Context, w io.Writer, from int64) error {
	if err := applier.CheckFrom(from, x.Size()); err != nil {
		return err
	}
	if x.closed {
		return applier.ErrClosed
	}
	if err := errors.Join(x.opened.ended, ctx.Err()); err != nil {
		return err
	}
	_, err := w.Write(x.stream()[from:])
	return err
}

// stream returns the export as bytes, which it makes when they are first asked
// for.
func (x *engineExport) stream() []byte {
	if x.bytes != nil {
		return x.bytes
	}
	position, _ := x.state.position.AppendBinary(nil) // its error is always nil
	body := append(binary.BigEndian.AppendUint32(nil, uint32(len(position))), position...)
	body = x.state.changes.append(body)
	x.state.pairs.Scan(func(p pair) bool {
		m := applier.Mutation{Op: applier.OpPut, Table: p.table, Key: p.key, Value: p.value}
		body = applier.AppendMutation(body, m)
		return true
	})
	frame := binary.BigEndian.AppendUint64([]byte(engineExportMagic), uint64(len(body)))
	frame = append(frame, body...)
	x.bytes = binary.BigEndian.AppendUint32(frame, crc32.Checksum(body, castagnoli))
	return x.bytes
}

// Close implements [applier.Export].
func (x *engineExport) Close() error {
	x.closed = true
	return nil
}

// Import implements [applier.Engine].
func (e *Engine) Import(ctx context.Context, r io.Reader) (applier.Position, error) {
	if e.opened.ended != nil {
		return applier.Position{}, e.opened.ended
	}
	opened := e.opened
	st, err := readEngineExport(r)
	if err == nil {
		st.changes = st.changes.adopted(st.position, e.keep)
	}
	// Reading may have been the time when the simulator crashed the member.
	if err = errors.Join(err, ctx.Err(), opened.ended); err != nil {
		return applier.Position{}, fmt.Errorf("import: %w", err)
	}
	e.held.ended = applier.ErrReplaced
	e.held = &life{}
	e.states = []*engineState{st}
	e.number++
	return st.position, nil
}

func readEngineExport(r io.Reader) (*engineState, error) {
	head := make([]byte, len(engineExportMagic)+8)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("%w: head: %w", errEngineExport, err)
	}
	n := binary.BigEndian.Uint64(head[len(engineExportMagic):])
	if string(head[:len(engineExportMagic)]) != engineExportMagic || n > maxEngineExport {
		return nil, fmt.Errorf("%w: head", errEngineExport)
	}
	frame, err := io.ReadAll(io.LimitReader(r, int64(n)+4))
	if err != nil {
		return nil, fmt.Errorf("%w: body: %w", errEngineExport, err)
	}
	if uint64(len(frame)) != n+4 {
		return nil, fmt.Errorf("%w: cut off: %w", errEngineExport, io.ErrUnexpectedEOF)
	}
	body, sum := frame[:n], binary.BigEndian.Uint32(frame[n:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, fmt.Errorf("%w: checksum does not match", errEngineExport)
	}
	return decodeEngineExport(body)
}

func decodeEngineExport(body []byte) (*engineState, error) {
	if len(body) < 4 || uint64(binary.BigEndian.Uint32(body)) > uint64(len(body)-4) {
		return nil, fmt.Errorf("%w: length of the position", errEngineExport)
	}
	at := body[4 : 4+binary.BigEndian.Uint32(body)]
	position, rest, err := applier.DecodePosition(at)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errEngineExport, err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after the position", errEngineExport, len(rest))
	}
	changes, body, err := decodeChanges(body[4+len(at):])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errEngineExport, err)
	}
	b := stateBuilder{pairs: newPairs()}
	if err := b.apply(body); err != nil {
		return nil, fmt.Errorf("%w: %w", errEngineExport, err)
	}
	st := b.state(position)
	st.changes = changes
	return st, nil
}
