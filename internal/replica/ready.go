package replica

// Ready follows the giant that somebody gets ready for while its fragments come: one
// at a time, from its first fragment on, of which none may be missing. It is told of
// fragments in the order of the log, and of each giant that it has come to its turn,
// or is gone. The zero value is ready for use. It belongs to one goroutine.
type Ready struct {
	giant uint64 // 0 for none
	parts int    // so many have come
}

// Todo is what is to be done with a fragment.
type Todo int

// The values of Todo.
const (
	PassOver Todo = iota // nothing: it is of another giant
	Begin                // with its giant
	Take                 // it comes next
)

// Fragment says what is to be done with a fragment of a giant.
func (r *Ready) Fragment(giant uint64, number int) Todo {
	switch {
	case r.giant == 0 && number == 0:
		r.giant, r.parts = giant, 1
		return Begin
	case r.giant == giant && r.parts == number:
		r.parts++
		return Take
	}
	return PassOver
}

// GaveUp notes that nothing can be done for the giant: the rest of it is passed over.
func (r *Ready) GaveUp() { *r = Ready{} }

// Gone notes that a giant will not come to its turn, and reports whether it is the
// one.
func (r *Ready) Gone(giant uint64) bool {
	this := giant != 0 && giant == r.giant
	if this {
		r.GaveUp()
	}
	return this
}

// Whole reports whether a giant of which all has come is the one.
func (r *Ready) Whole(giant uint64) bool { return giant != 0 && giant == r.giant }

// Turn notes that a giant of so many fragments has come to its turn. It reports
// whether it is the one, and whether all of it has come.
func (r *Ready) Turn(giant uint64, fragments int) (this, whole bool) {
	whole = fragments == r.parts
	this = r.Gone(giant)
	return this, this && whole
}
