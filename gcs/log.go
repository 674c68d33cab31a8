package gcs

import (
	"errors"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gtid"
)

// ErrLogCorrupt marks a log whose contents cannot be what was written. The
// member must not start from it.
var ErrLogCorrupt = errors.New("gcs: log is corrupt")

// Identity says whose log this is. It is written before the first entry.
type Identity struct {
	Group       gtid.UUID // name of the group
	Incarnation gtid.UUID // present incarnation of the group, zero until the member learns it
	Member      gtid.UUID // the lasting identity of the member
	RaftID      uint64    // drawn anew for each join, never used twice
	Session     uint64    // runs of this member on this log, 1 for the first
}

// outlived reports whether a log that goes on after an incarnation is not this
// member's: a group that forced its membership has its members' identities name
// the new incarnation before they deliver it. The log may well begin in an
// earlier incarnation than the identity names, and for one that is being
// brought the identity's may not have begun yet.
func (id Identity) outlived(ended gtid.UUID) bool {
	return !id.Incarnation.IsZero() && id.Incarnation == ended
}

// LogReader is the side of the log that the member's state machine reads. Others
// may read entries that were delivered, beside it.
// Its methods have the contract of [raft.Storage]: Term also answers for
// FirstIndex()-1, Entries returns at least one entry, nothing is copied and
// nobody may change what is returned. They answer from memory where they can;
// errors other than raft's own sentinels never come back from them.
type LogReader interface {
	FirstIndex() (uint64, error)
	LastIndex() (uint64, error)
	Term(index uint64) (uint64, error)
	Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error)
}

// LogWrite is one piece of work for the log's writer. Entries replace
// whatever the log holds from Entries[0].Index on.
type LogWrite struct {
	HardState *raftpb.HardState // nil when unchanged
	Entries   []*raftpb.Entry
	Sync      bool // false only when nothing but the commit index changed
}

// Checkpoint is the serialised state of a member's state machine at a log
// index. Replaying the log after Index from Data gives the member's state.
type Checkpoint struct {
	Index uint64
	Term  uint64 // of the entry at Index
	Data  []byte
}

// MaxRecord bounds the record of a log, in bytes.
const MaxRecord = 1 << 20

// Adoption is what a member's log becomes when the membership of its group is
// forced: the log on which those that are left agree, and what this member is in
// it.
type Adoption struct {
	Identity  Identity
	HardState *raftpb.HardState
	// Last is the index of the last entry that stays; those after it are
	// forgotten. It must be in the log, or be that of the last entry forgotten
	// before, and not below a checkpoint: what was applied was committed, and
	// stays. 0 without Entries empties the log, checkpoints and all.
	Last    uint64
	Entries []*raftpb.Entry // follow on Last
	Record  []byte          // as for SetRecord
}

// Log is the durable log of one member, of which the replicated state is a
// function.
//
// Who may call: the LogReader half by any goroutine, while one (the writer's)
// calls the rest. What Write has written is
// visible to readers before Write returns, and never before it is as durable
// as asked.
//
// Errors: a write error is final. It means that the disk cannot be trusted
// with more; every later write returns it again, reads go on.
type Log interface {
	LogReader

	// Identity returns the stored identity, the zero value for a fresh log.
	Identity() Identity
	// SetIdentity stores id durably.
	SetIdentity(id Identity) error
	// Record returns the record, nil when there is none: a few bytes that the
	// member keeps beside its log, of which the log knows nothing. Nobody may
	// change them.
	Record() []byte
	// SetRecord stores at most MaxRecord bytes durably in place of the record,
	// none to remove it.
	SetRecord(record []byte) error
	// HardState returns the stored hard state, empty for a fresh log.
	HardState() *raftpb.HardState
	// Write appends all of ws in order as one group commit: one fsync if any
	// of them asks for it.
	Write(ws []LogWrite) error

	// SaveCheckpoint stores c durably beside those already there.
	SaveCheckpoint(c Checkpoint) error
	// Checkpoint returns the newest checkpoint with an index of at most
	// limit; a zero Checkpoint when there is none.
	Checkpoint(limit uint64) (Checkpoint, error)
	// Truncate forgets entries up to and including index, but the term of the
	// entry at index, and checkpoints below index. A lower index than that of
	// an earlier call changes nothing. index must not exceed LastIndex.
	Truncate(index uint64) error
	// Reset replaces everything but the identity and the record: the log is
	// empty after c.Index, c is its only checkpoint and hs its hard state. It
	// is atomic and durable.
	Reset(c Checkpoint, hs *raftpb.HardState) error
	// Adopt makes the log what a says, all of it or, after a crash, nothing.
	// It is durable. The commit index must not exceed the new end of the log.
	Adopt(a Adoption) error
	// Close releases the log. It does not wait for readers.
	Close() error
}
