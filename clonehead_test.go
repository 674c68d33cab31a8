package concordat

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/concordatdb/concordat/gcs"
)

func TestCloneHead(t *testing.T) {
	c := gcs.Checkpoint{Index: 7, Term: 3, Data: []byte("state")}
	head := cloneHead(c, 1000)
	in := bytes.NewReader(append(bytes.Clone(head), "export"...))
	got, size, err := readCloneHead(in)
	if err != nil || got.Index != 7 || got.Term != 3 || string(got.Data) != "state" || size != uint64(len(head))+1000 {
		t.Errorf("got %v, %d bytes in all, %v", got, size, err)
	}
	if rest, _ := io.ReadAll(in); string(rest) != "export" {
		t.Errorf("left %q of what follows", rest)
	}
	for i := range head {
		if _, _, err := readCloneHead(bytes.NewReader(head[:i])); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
		flipped := bytes.Clone(head)
		flipped[i] ^= 1 << (i % 8)
		if _, _, err := readCloneHead(bytes.NewReader(flipped)); err == nil {
			t.Errorf("byte %d flipped: no error", i)
		}
	}
}

// FuzzCloneHead checks that what decodes has one form only.
func FuzzCloneHead(f *testing.F) {
	f.Add(cloneHead(gcs.Checkpoint{Index: 7, Term: 3, Data: []byte("state")}, 1000))
	f.Add(cloneHead(gcs.Checkpoint{Index: 1}, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, size, err := readCloneHead(bytes.NewReader(b))
		if err != nil {
			return
		}
		head := uint64(cloneHeadFixed + len(c.Data) + cloneHeadSum)
		if again := cloneHead(c, size-head); !bytes.HasPrefix(b, again) {
			t.Errorf("%x decodes and encodes to %x", b, again)
		}
	})
}
