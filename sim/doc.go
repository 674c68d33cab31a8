// Package sim is a shell around the members' state machine in which everything
// that waits is simulated: one goroutine, one seeded random source, a virtual
// clock, a network that delays, loses, repeats, reorders and partitions, and
// disks that forget what was not synced.
//
// It owns worlds. A world is a group of members with clients that run
// conflicting transactions while faults strike; after the faults it must heal.
// Everything about a world follows from its seed: how many members there are,
// how tight their limits, how slow their disks, what breaks when. The package
// promises that a seed gives the same events in the same order, byte for byte
// in the trace, on every run of the same build. (A seed means nothing across
// versions of Go or of raft.)
//
// What a member's shell does when the member is out of its group is done here as
// well: it looks for its place when nobody leads it, comes back under another raft
// id and claims what it holds, or has that discarded; it takes its steps in plans
// of force-members. Operators are part of a world: they force the membership, in
// the right moments and in wrong ones, order members out, have them rejoin, put
// new disks in, and when the faults are over finish what they have begun.
//
// A forced view begins another incarnation of the group, and with it another
// history: that of the incarnation before, up to where the adopted log is the
// same. Two may live side by side. Each checker watches over each history.
//
// Half of the worlds have one primary, the others as many as there are members.
// Transactions ask for levels, for data of a bounded age, for what their session has
// written; before they begin they wait as a real shell has them wait, by the same
// pure pieces. Operators change the primary, the mode and the protocol, and members
// die or stand still in the midst of that: a process that was stopped goes on by
// what it knew.
//
// When the faults are over a member's engine becomes slow for good, in some of the
// worlds in which writers are slowed; it must not fall far behind.
//
// Some transactions travel in fragments, so small that many make one transaction.
// Their origins lose power between two of them, their clients take them back, others
// lose their data meanwhile and come back with a copy of the state.
//
// The checkers stand outside of the members and are fed by what these do: one
// for each promise of docs/DESIGN.md §6, named by its number. They know the
// whole history and use the obvious rule where a member uses the clever one.
//
// The package must never help a member: whatever it does for one, a real shell
// has to do too. Where the two could differ, in what is read from a disk at a
// start and what is done in which order when a copy of the state is installed,
// member.go and clone.go say why it must be so.
//
// # Time
//
// Virtual time is an int64 of microseconds since the world began. Events are
// ordered by time, and among equal times by the order in which they were
// scheduled.
//
// # Randomness
//
// A world draws from one PCG, and for what came to worlds later from others of the
// same seed: a plain world, in which all members write, nobody asks for a level and
// nothing travels in fragments, is the same with them and without. raft draws its election timeouts from
// crypto/rand.Reader, on which nobody else in a world depends: while a world
// runs, that variable holds a ChaCha8 with the world's seed. So a process runs
// one world at a time, and nothing that needs real randomness may run beside
// it; [Run] keeps the first rule by a lock, the second is the caller's.
package sim
