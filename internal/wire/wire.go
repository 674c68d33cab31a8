// Package wire takes encoded state and messages apart.
//
// It owns the rules that all such bytes obey: fields follow each other, what a
// length claims is checked against the bytes that are left, numbers are in their
// shortest form, and the first mistake is the error. It promises that no bytes
// make it panic or allocate more than they are long. It must never know what the
// fields mean.
package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/concordatdb/concordat/gtid"
)

// Decoder takes fields off the front of Rest. After the first error nothing is
// left, and all fields are zero. It belongs to one goroutine.
type Decoder struct {
	Rest []byte
	Kind error // what the first error wraps
	Err  error
}

// Fail makes an error of what is wrong, unless there is one already.
func (d *Decoder) Fail(format string, args ...any) {
	if d.Err == nil {
		d.Err = fmt.Errorf("%w: %s", d.Kind, fmt.Sprintf(format, args...))
	}
	d.Rest = nil
}

// Bytes takes n bytes, which alias Rest; nil on an error.
func (d *Decoder) Bytes(n int) []byte {
	if n < 0 || n > len(d.Rest) {
		d.Fail("%d bytes wanted, %d left", n, len(d.Rest))
		return nil
	}
	b := d.Rest[:n:n]
	d.Rest = d.Rest[n:]
	return b
}

// Uvarint takes a number.
func (d *Decoder) Uvarint() uint64 {
	x, n := binary.Uvarint(d.Rest)
	if n <= 0 || n > 1 && d.Rest[n-1] == 0 {
		d.Fail("number cut off, or not in its shortest form")
		return 0
	}
	d.Rest = d.Rest[n:]
	return x
}

// Varint takes a signed number.
func (d *Decoder) Varint() int64 {
	x := d.Uvarint()
	return int64(x>>1) ^ -int64(x&1)
}

// Set takes a GTID set in the binary form of package gtid.
func (d *Decoder) Set() gtid.Set {
	if d.Err != nil {
		return gtid.Set{}
	}
	s, rest, err := gtid.DecodeSet(d.Rest)
	if err != nil {
		d.Fail("%v", err)
		return gtid.Set{}
	}
	d.Rest = rest
	return s
}

// GTID takes a GTID in the binary form of package gtid, which is valid or zero.
func (d *Decoder) GTID() gtid.GTID {
	if d.Err != nil {
		return gtid.GTID{}
	}
	g, rest, err := gtid.DecodeGTID(d.Rest)
	if err != nil {
		d.Fail("%v", err)
		return gtid.GTID{}
	}
	d.Rest = rest
	return g
}
