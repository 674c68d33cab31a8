package gcs

import (
	"encoding/binary"
	"fmt"

	"github.com/concordatdb/concordat/gtid"
)

// decoder takes fields off the front of rest and remembers what first went
// wrong. After that every field is zero, so callers check once, at the end.
type decoder struct {
	rest []byte
	bad  string
}

func (d *decoder) fail(format string, args ...any) {
	if d.bad == "" {
		d.bad = fmt.Sprintf(format, args...)
	}
	d.rest = nil
}

// finish returns an error that wraps kind if a field was bad or bytes are left.
func (d *decoder) finish(kind error) error {
	if d.bad == "" && len(d.rest) != 0 {
		d.fail("%d bytes too many", len(d.rest))
	}
	if d.bad != "" {
		return fmt.Errorf("%w: %s", kind, d.bad)
	}
	return nil
}

func (d *decoder) byte() byte {
	b := d.bytes(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.fail("%d bytes wanted, %d left", n, len(d.rest))
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) uvarint() uint64 {
	x, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail("number cut off")
		return 0
	}
	if n > 1 && d.rest[n-1] == 0 {
		d.fail("number longer than it need be")
		return 0
	}
	d.rest = d.rest[n:]
	return x
}

// uvarintMax is uvarint for a number that must not exceed limit, so that what
// is read cannot make its reader allocate without bound.
func (d *decoder) uvarintMax(limit uint64) uint64 {
	x := d.uvarint()
	if x > limit {
		d.fail("number %d exceeds %d", x, limit)
		return 0
	}
	return x
}

func (d *decoder) uuid() (u gtid.UUID) {
	copy(u[:], d.bytes(uint64(len(u))))
	return u
}
