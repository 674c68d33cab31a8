package applier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

// Limits of the key-value payload. They are checked where a transaction is
// written, by [Mutation.Check], and again where it is decoded.
const (
	MaxNameLen  = 255      // bytes of a schema or table name
	MaxKeyLen   = 64 << 10 // bytes of a key
	MaxValueLen = 64 << 20 // bytes of a value
)

// ErrPayload marks a payload that is not one. Certified payloads come from
// members of the same protocol version, so it means corruption or a bug.
var ErrPayload = errors.New("applier: malformed payload")

// ErrTooLarge marks a key or a value beyond its limit.
var ErrTooLarge = errors.New("applier: too large")

// ErrTableName marks a table whose schema or name cannot be one.
var ErrTableName = errors.New("applier: invalid table name")

// Op is what a mutation does to its key.
type Op byte

// The operations. Their values are part of the log format.
const (
	OpPut    Op = 1 // set the key's value
	OpDelete Op = 2 // remove the key; harmless when it does not exist
	OpAdd    Op = 3 // add to the key's counter, by the rules of AddCounter
)

// Mutation is one change of one key. When decoded, Key and Value alias the
// payload.
type Mutation struct {
	Op    Op
	Table Table
	Key   []byte // may be empty: the first key of its table
	Value []byte // nil unless Op is OpPut; may be empty
	Delta int64  // 0 unless Op is OpAdd; what is added
}

// Check reports what keeps t from being a table: an error wraps
// [ErrTableName] and names the part at fault.
func (t Table) Check() error {
	if err := checkName(t.Schema, "schema"); err != nil {
		return err
	}
	return checkName(t.Name, "name")
}

func checkName(s, what string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: the %s is empty", ErrTableName, what)
	case len(s) > MaxNameLen:
		return fmt.Errorf("%w: the %s has %d bytes, the limit is %d", ErrTableName, what, len(s), MaxNameLen)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%w: the %s %q contains a NUL", ErrTableName, what, s)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: the %s %q is not UTF-8", ErrTableName, what, s)
	}
	return nil
}

// Check reports what keeps m from being written. A writer calls it before
// [AppendMutation], which does not check. The error wraps [ErrTableName] or
// [ErrTooLarge], or names the unknown operation.
func (m Mutation) Check() error {
	if err := m.Op.check(); err != nil {
		return err
	}
	if err := m.Table.Check(); err != nil {
		return err
	}
	if err := checkLen(uint64(len(m.Key)), MaxKeyLen, "key"); err != nil {
		return err
	}
	return checkLen(uint64(len(m.Value)), MaxValueLen, "value")
}

func (op Op) check() error {
	switch op {
	case OpPut, OpDelete, OpAdd:
		return nil
	}
	return fmt.Errorf("unknown operation %d", op)
}

func checkLen(n, limit uint64, what string) error {
	if n > limit {
		return fmt.Errorf("%w: %s of %d bytes, the limit is %d", ErrTooLarge, what, n, limit)
	}
	return nil
}

// AppendMutation appends m's encoding to b.
//
//	mutation := op(1) table key [value | delta]
//	table    := uvarint(len schema) schema uvarint(len name) name
//	key      := uvarint(len) bytes
//	value    := uvarint(len) bytes          for OpPut only
//	delta    := zigzag varint               for OpAdd only
//
// Varints are those of encoding/binary, in their shortest form. A payload is a
// sequence of mutations, which take effect one after the other.
func AppendMutation(b []byte, m Mutation) []byte {
	b = append(b, byte(m.Op))
	b = appendString(b, m.Table.Schema)
	b = appendString(b, m.Table.Name)
	b = appendBytes(b, m.Key)
	switch m.Op {
	case OpPut:
		b = appendBytes(b, m.Value)
	case OpAdd:
		b = binary.AppendVarint(b, m.Delta)
	case OpDelete:
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBytes(b, s []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Mutations yields the mutations of a payload in order. The first error ends
// it; it wraps [ErrPayload].
func Mutations(payload []byte) iter.Seq2[Mutation, error] {
	return func(yield func(Mutation, error) bool) {
		var tables tableCache
		for rest := payload; len(rest) > 0; {
			m, n, err := decodeMutation(rest, &tables)
			if err != nil {
				yield(Mutation{}, fmt.Errorf("%w at byte %d: %w", ErrPayload, len(payload)-len(rest), err))
				return
			}
			if !yield(m, nil) {
				return
			}
			rest = rest[n:]
		}
	}
}

// MutationReader takes the mutations off a payload that comes in pieces, cut
// anywhere. The zero value is ready for use, by one goroutine at a time.
type MutationReader struct {
	tables tableCache
	held   []byte // what was not taken yet begins at
	at     int
}

// Add takes the next bytes, which stay the caller's.
func (r *MutationReader) Add(b []byte) {
	if r.at > 0 {
		r.held, r.at = r.held[:copy(r.held, r.held[r.at:])], 0
	}
	r.held = append(r.held, b...)
}

// Next takes the next mutation. It aliases what the reader holds, until the next
// Add. ok is false where no whole mutation is left: more may come, or none ever
// will, because what is there is malformed.
func (r *MutationReader) Next() (m Mutation, ok bool) {
	if r.Held() == 0 {
		return Mutation{}, false
	}
	m, n, err := decodeMutation(r.held[r.at:], &r.tables)
	if err != nil {
		return Mutation{}, false
	}
	r.at += n
	return m, true
}

// Held returns how many bytes there are that are no whole mutation. A payload that
// was read to its end leaves none.
func (r *MutationReader) Held() int { return len(r.held) - r.at }

// tableCache spares a string allocation for runs of mutations in one table.
type tableCache struct{ last Table }

func (c *tableCache) table(schema, name []byte) (Table, error) {
	if c.last.Schema == string(schema) && c.last.Name == string(name) && len(schema) > 0 {
		return c.last, nil
	}
	t := Table{Schema: string(schema), Name: string(name)}
	if err := t.Check(); err != nil {
		return Table{}, err
	}
	c.last = t
	return t, nil
}

func decodeMutation(b []byte, tables *tableCache) (m Mutation, n int, err error) {
	d := decoder{rest: b[1:]}
	m.Op = Op(b[0])
	if err := m.Op.check(); err != nil {
		return m, 0, err
	}
	schema := d.bytes(MaxNameLen, "schema")
	name := d.bytes(MaxNameLen, "table")
	m.Key = d.bytes(MaxKeyLen, "key")
	switch m.Op {
	case OpPut:
		m.Value = d.bytes(MaxValueLen, "value")
	case OpAdd:
		m.Delta = d.varint("delta")
	case OpDelete:
	}
	if d.err != nil {
		return m, 0, d.err
	}
	if m.Table, err = tables.table(schema, name); err != nil {
		return m, 0, err
	}
	return m, len(b) - len(d.rest), nil
}

// decoder reads the fields of a mutation and remembers the first error.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) bytes(limit uint64, what string) []byte {
	if d.err != nil {
		return nil
	}
	n, w, why := uvarint(d.rest)
	switch {
	case why != "":
		d.err = fmt.Errorf("length of %s %s", what, why)
	case n > limit:
		d.err = checkLen(n, limit, what)
	case n > uint64(len(d.rest)-w):
		d.err = fmt.Errorf("%s has %d bytes, only %d left", what, n, len(d.rest)-w)
	default:
		s := d.rest[w : w+int(n) : w+int(n)]
		d.rest = d.rest[w+int(n):]
		return s
	}
	return nil
}

func (d *decoder) varint(what string) int64 {
	if d.err != nil {
		return 0
	}
	n, w, why := uvarint(d.rest)
	if why != "" {
		d.err = fmt.Errorf("%s %s", what, why)
		return 0
	}
	d.rest = d.rest[w:]
	return int64(n>>1) ^ -int64(n&1) // zigzag: 0, -1, 1, -2, ...
}

// uvarint reads a number and its width in bytes, or says why there is none. It
// takes the shortest form only, so that a mutation has one encoding.
func uvarint(b []byte) (n uint64, width int, why string) {
	n, width = binary.Uvarint(b)
	switch {
	case width <= 0:
		return 0, 0, "is cut off or overflows"
	case width > 1 && b[width-1] == 0:
		return 0, 0, "is not in its shortest form"
	}
	return n, width, ""
}
