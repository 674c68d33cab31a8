package gtid

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
)

// UUID identifies whoever numbers transactions: a group, or a member of its own
// accord. The zero UUID is a legal one; use [UUID.IsZero] where it means none.
type UUID [16]byte

// uuidTextLen is the length of a UUID as printed: 32 digits and four dashes.
const uuidTextLen = 36

// NewUUID draws a random (version 4) UUID. It reads 16 bytes from random, which
// is crypto/rand.Reader in a program and a seeded source in a simulation.
func NewUUID(random io.Reader) (UUID, error) {
	var u UUID
	if _, err := io.ReadFull(random, u[:]); err != nil {
		return UUID{}, fmt.Errorf("new UUID: read 16 random bytes: %w", err)
	}
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u, nil
}

// ParseUUID reads a UUID in any of three forms, in upper or lower case:
//
//	3e11fa47-71ca-11e1-9e33-c80aa9429562
//	{3e11fa47-71ca-11e1-9e33-c80aa9429562}
//	3e11fa4771ca11e19e33c80aa9429562
//
// Anything before or after is a [SyntaxError], white space too.
func ParseUUID(text string) (UUID, error) {
	sc := scanner{kind: "UUID", text: text}
	u, err := sc.anyUUID()
	if err != nil {
		return UUID{}, err
	}
	if !sc.done() {
		return UUID{}, sc.expected("the end of the text")
	}
	return u, nil
}

// String returns the 36-character form in lower case.
func (u UUID) String() string {
	var buf [uuidTextLen]byte
	return string(u.append(buf[:0]))
}

// IsZero reports whether all bits of u are zero.
func (u UUID) IsZero() bool { return u == UUID{} }

// Compare orders UUIDs bytewise, which is also the order of their texts. It
// returns a negative number, zero or a positive number.
func (u UUID) Compare(v UUID) int { return bytes.Compare(u[:], v[:]) }

func (u UUID) append(b []byte) []byte {
	b = hex.AppendEncode(b, u[:4])
	for from := 4; from < 10; from += 2 {
		b = append(b, '-')
		b = hex.AppendEncode(b, u[from:from+2])
	}
	b = append(b, '-')
	return hex.AppendEncode(b, u[10:])
}

// AppendText implements [encoding.TextAppender].
func (u UUID) AppendText(b []byte) ([]byte, error) { return u.append(b), nil }

// MarshalText implements [encoding.TextMarshaler].
func (u UUID) MarshalText() ([]byte, error) { return u.append(nil), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; see [ParseUUID]. After an
// error u is what it was.
func (u *UUID) UnmarshalText(text []byte) error {
	parsed, err := ParseUUID(string(text))
	if err != nil {
		return err
	}
	*u = parsed
	return nil
}
