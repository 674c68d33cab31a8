package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

func clonePattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func TestClone(t *testing.T) {
	a := start(t, 1)
	b := start(t, 2)
	for _, size := range []int{0, 1, cloneChunkBytes, 3*cloneChunkBytes + 17} {
		want := clonePattern(size)
		a.clone = func(_ context.Context, w io.Writer) error {
			half := len(want) / 2
			if _, err := w.Write(want[:half]); err != nil {
				return err
			}
			_, err := w.Write(want[half:])
			return err
		}
		r, err := Clone(t.Context(), a.address, &peerpb.CloneRequest{Identity: b.Identity()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("clone of %d bytes: got %d bytes, %v", size, len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// readClone clones from that address and returns how it ended.
func readClone(t *testing.T, address string, id *peerpb.Identity) ([]byte, error) {
	t.Helper()
	r, err := Clone(t.Context(), address, &peerpb.CloneRequest{Identity: id}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestCloneFails(t *testing.T) {
	a := start(t, 1)
	a.clone = func(_ context.Context, w io.Writer) error {
		if _, err := w.Write(clonePattern(2 * cloneChunkBytes)); err != nil {
			return err
		}
		return errors.New("the disk is gone")
	}
	got, err := readClone(t, a.address, start(t, 2).Identity())
	if err == nil || !strings.Contains(err.Error(), "the disk is gone") || !strings.Contains(err.Error(), "broke off at byte 524288") {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	stranger := start(t, 3, func(c *Config) { c.Identity.Incarnation = gtid.UUID{1} })
	_, err = readClone(t, a.address, stranger.Identity())
	if r, ok := errors.AsType[*RefusedError](err); !ok || r.Reason != peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION {
		t.Errorf("a stranger's clone gives %v", err)
	}
}

// A clone ends with the transport that serves it, and with its reader.
func TestCloneIsInterrupted(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	ended := make(chan error, 1)
	a.clone = func(ctx context.Context, w io.Writer) error {
		var err error
		for block := clonePattern(cloneChunkBytes); err == nil && ctx.Err() == nil; {
			_, err = w.Write(block)
		}
		ended <- errors.Join(err, ctx.Err())
		return ctx.Err()
	}
	for _, interrupt := range []func(io.Closer) error{io.Closer.Close, func(io.Closer) error { return a.Close() }} {
		r, err := Clone(t.Context(), a.address, &peerpb.CloneRequest{Identity: b.Identity()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := interrupt(r); err != nil {
			t.Fatal(err)
		}
		if <-ended == nil {
			t.Error("the clone was not interrupted")
		}
		if _, err := io.Copy(io.Discard, r); err == nil {
			t.Error("an interrupted clone looks complete")
		}
		r.Close()
	}
}

func TestCloneIsVerified(t *testing.T) {
	for name, test := range map[string]struct {
		chunks []*peerpb.CloneChunk
		want   error
	}{
		"checksum": {[]*peerpb.CloneChunk{{Data: []byte("abc"), Crc32C: 1}, {Last: true}}, ErrCloneCorrupt},
		"cut off":  {[]*peerpb.CloneChunk{{Data: []byte("abc"), Crc32C: 0x364b3fb7}}, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := readClone(t, liar{chunks: test.chunks}.serve(t), nil); !errors.Is(err, test.want) {
				t.Errorf("got %q, %v, want %v", got, err, test.want)
			}
		})
	}
}
