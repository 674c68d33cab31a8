package giant

import (
	"cmp"
	"hash/crc32"
	"slices"
)

// Assembly is the giants that have begun and not ended, at most one of each
// origin. Its state is a function of what it was told in the order of the log,
// but for what it holds in memory. It belongs to one goroutine.
//
// Invariants, for each giant:
//
//  1. its fragments are those numbered 0, 1, 2, … of one session, and all that
//     this session has broadcast of it so far;
//  2. sum is the checksum of what they hold, and bytes how much that is, which is
//     within the limit as of the last fragment.
type Assembly struct {
	pending []*pending // ascending by origin
	clock   uint64     // bytes of log that went by
	memory  int        // how much may be held
	held    int        // how much is, beside what came with a copied state
	unpack  unpacker

	begun uint64   // giants of which the first fragment came here
	gone  []uint64 // those of them that were dropped, since Gone
}

// pending is a giant of which the end is missing.
type pending struct {
	origin, session uint64
	number          uint64 // among those that began here, 0 for one that came with a state
	heard           uint64 // clock at the last fragment
	sum             uint32
	body
}

// body is the bytes of a giant, or where they are.
type body struct {
	bytes     int
	held      int // in memory, of what the log holds as well
	fragments []piece
}

// piece is what one fragment holds.
type piece struct {
	index   uint64 // log index; 0: no log has it, for it came with a copied state
	message int
	size    int
	data    []byte // nil: to be read from the log
}

// NewAssembly makes an empty assembly, which holds at most so many bytes in
// memory of what it can read again from the log.
func NewAssembly(memory int) *Assembly { return &Assembly{memory: memory} }

// find returns the place of an origin's giant, and whether there is one.
func (a *Assembly) find(origin uint64) (int, bool) {
	return slices.BinarySearchFunc(a.pending, origin, func(p *pending, id uint64) int { return cmp.Compare(p.origin, id) })
}

// Fragment takes a fragment in, of a group that allows bodies of limit bytes, 0
// for MaxBytes. What is none, or is not the next one, ends the giant that it would
// belong to. The assembly may keep b, which nobody may change. It returns what was
// taken in and what that holds, which nobody may change either, if that is of a giant
// that began here.
func (a *Assembly) Fragment(at Place, b []byte, limit int) (part Part, data []byte, ok bool) {
	i, known := a.find(at.Origin)
	f, err := decodeFragment(b)
	if err == nil {
		data, err = a.unpack.body(&f)
	}
	if known && (err != nil || f.number == 0 || a.pending[i].session != at.Session || len(a.pending[i].fragments) != f.number) {
		a.drop(i)
		known = false
	}
	if err != nil || !known && f.number != 0 {
		return Part{}, nil, false
	}
	if !known {
		a.pending = slices.Insert(a.pending, i, &pending{origin: at.Origin, session: at.Session})
	}
	p := a.pending[i]
	if len(p.fragments) == MaxFragments || f.size > Limit(limit)-p.bytes {
		a.drop(i)
		return Part{}, nil, false
	}
	if f.number == 0 {
		a.begun++
		p.number = a.begun
	}
	p.heard = a.clock
	p.bytes += f.size
	p.sum = crc32.Update(p.sum, castagnoli, data)
	kept := piece{index: at.Index, message: at.Message, size: f.size}
	part = Part{Giant: p.number, Number: f.number, piece: kept}
	if f.size <= a.memory-a.held {
		a.held += f.size
		p.held += f.size
		kept.data = data
	}
	p.fragments = append(p.fragments, kept)
	return part, data, p.number != 0
}

// Limit is what a limit of bytes stands for.
func Limit(limit int) int {
	if limit <= 0 || limit > MaxBytes {
		return MaxBytes
	}
	return limit
}

// Number is that of an origin's giant among those that began here; 0 if it has none,
// or one that did not.
func (a *Assembly) Number(origin uint64) uint64 {
	if i, known := a.find(origin); known {
		return a.pending[i].number
	}
	return 0
}

// Whole is a giant that has ended.
type Whole struct {
	body
	number uint64
}

// Number is the giant's among those that began here, 0 if it did not.
func (w *Whole) Number() uint64 { return w.number }

// Fragments is how many there are.
func (w *Whole) Fragments() int { return len(w.fragments) }

// End takes out the giant of an origin that its end speaks of; nil if what came
// is not that. Either way there is none of that origin any more. The bytes that
// are in memory count until Release.
func (a *Assembly) End(origin, session uint64, t Total) *Whole {
	i, known := a.find(origin)
	if !known {
		return nil
	}
	p := a.pending[i]
	if p.session != session || len(p.fragments) != t.Fragments || p.bytes != t.Bytes || p.sum != t.Sum {
		a.drop(i)
		return nil
	}
	a.pending = slices.Delete(a.pending, i, i+1)
	return &Whole{p.body, p.number}
}

// Release notes that nobody needs the bytes of a giant any more.
func (a *Assembly) Release(w *Whole) {
	if w != nil {
		a.held -= w.held
		w.held = 0
	}
}

// GiveUp drops what there is of an origin's giant, and reports whether there was
// anything.
func (a *Assembly) GiveUp(origin uint64) bool {
	i, known := a.find(origin)
	if known {
		a.drop(i)
	}
	return known
}

func (a *Assembly) drop(i int) {
	a.dropped(a.pending[i])
	a.pending = slices.Delete(a.pending, i, i+1)
}

func (a *Assembly) dropped(p *pending) {
	a.held -= p.held
	if p.number != 0 {
		a.gone = append(a.gone, p.number)
	}
}

// Gone returns the numbers of the giants that were dropped since the last call. The
// result is valid until something more is dropped.
func (a *Assembly) Gone() []uint64 {
	gone := a.gone
	a.gone = a.gone[:0]
	return gone
}

// Keep drops the giants of origins that are not to be kept.
func (a *Assembly) Keep(kept func(origin uint64) bool) {
	a.dropIf(func(p *pending) bool { return !kept(p.origin) })
}

func (a *Assembly) dropIf(gone func(*pending) bool) {
	a.pending = slices.DeleteFunc(a.pending, func(p *pending) bool {
		if gone(p) {
			a.dropped(p)
			return true
		}
		return false
	})
}

// Passed notes that so many bytes of the log went by, and gives up the giants of
// which nothing has come for too long, in a group that allows bodies of limit
// bytes.
func (a *Assembly) Passed(bytes, limit int) {
	a.clock += uint64(bytes)
	if len(a.pending) == 0 {
		return // as nearly always, and this is asked for every entry
	}
	most := patience * uint64(Limit(limit))
	a.dropIf(func(p *pending) bool { return a.clock-p.heard > most })
}

// Oldest is the log index of the first entry from which a pending giant may have
// to be read again, 0 if there is none.
func (a *Assembly) Oldest() (oldest uint64) {
	for _, p := range a.pending {
		for _, f := range p.fragments {
			if f.index != 0 {
				if oldest == 0 || f.index < oldest {
					oldest = f.index
				}
				break
			}
		}
	}
	return oldest
}

// Stats says how much there is.
type Stats struct {
	Pending   int // giants
	Fragments int // of those
	Bytes     int // of those
	// Held is how many bytes are in memory, those of giants that have ended and
	// not been released among them. Copied are those beside it that came with a
	// copied state, and are in no log of this member.
	Held, Copied int
}

// Stats returns how much there is.
func (a *Assembly) Stats() Stats {
	s := Stats{Pending: len(a.pending), Held: a.held}
	for _, p := range a.pending {
		s.Fragments += len(p.fragments)
		s.Bytes += p.bytes
		for _, f := range p.fragments {
			if f.index != 0 {
				break
			}
			s.Copied += f.size
		}
	}
	return s
}
