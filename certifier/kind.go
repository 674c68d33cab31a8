package certifier

import "fmt"

// Kind is how a transaction touched an item. The values are part of the log
// format.
type Kind byte

// The kinds, in the order in which a write set holds them.
const (
	// Write: the row was inserted, changed or deleted.
	Write Kind = 0
	// Delta: a number was added to the row, whatever it held.
	Delta Kind = 1
	// Reference: the row is one that must not vanish, such as the parent of a
	// foreign key.
	Reference Kind = 2
	// Read: the row was read, or found missing, by a serializable transaction.
	Read Kind = 3

	// Kinds is how many there are.
	Kinds = 4
)

// String returns the kind as a word for people.
func (k Kind) String() string {
	switch k {
	case Write:
		return "write"
	case Delta:
		return "delta"
	case Reference:
		return "reference"
	case Read:
		return "read"
	}
	return fmt.Sprintf("Kind(%d)", byte(k))
}

// conflicts is the conflict matrix. A row is what the incoming transaction does
// with an item, a column what a transaction certified before it, which it has
// not seen, did.
//
//	                 earlier, unseen
//	incoming    write  delta  reference  read
//	write         x      x        x       -
//	delta         x      -        x       -
//	reference     x      x        -       -
//	read          x      x        -       -
//
// The column of reads is empty because the order of the log is the order of the
// transactions: who comes later may change what an earlier one has read. So
// reads are judged and not remembered.
//
// The other three kinds exclude each other. A certified transaction has
// therefore seen everything that touched its item in another way before, and
// the history of an item is whole in its last run of one kind.
var conflicts = [Kinds][Kinds]bool{
	Write:     {Write: true, Delta: true, Reference: true, Read: false},
	Delta:     {Write: true, Delta: false, Reference: true, Read: false},
	Reference: {Write: true, Delta: true, Reference: false, Read: false},
	Read:      {Write: true, Delta: true, Reference: false, Read: false},
}

// ConflictsWith reports whether an incoming transaction that does k with an
// item loses to one certified before it that did earlier with the same item
// and that it has not seen. Both must be kinds.
func (k Kind) ConflictsWith(earlier Kind) bool { return conflicts[k][earlier] }
