// Package certifier decides which transactions commit.
//
// It owns the write set of a transaction, the history of who wrote what last,
// and the numbering of what commits. It promises that its verdicts are a
// function of the transactions and marks it was given, in their order: two
// members that certify the same sequence, one of them perhaps restored from a
// checkpoint on the way, give the same verdict, the same GTID and the same
// parallelisation interval at each position. The first committer wins: of two
// transactions of which neither saw the other and that wrote a common item,
// the one delivered first commits.
//
// It must never know how a payload looks, who waits for a verdict, or what
// time it is, and it must never ask anything of the outside.
//
// # The rule
//
// A transaction comes with its snapshot version S, the GTID set of what it
// could see. For each item that a certified transaction wrote, the history has
// that transaction's own snapshot version together with its GTID: the stored
// set T. The incoming transaction conflicts if and only if, for one of its
// items, T is not a subset of S. This is what Group Replication computes; the
// popular wording, "S is a subset of T", lets incomparable sets pass.
//
// # The window
//
// The history is a window over the log. A history mark at a log index drops
// what was certified up to there, and a transaction whose S does not contain
// everything up to the mark is refused as too old. Forgetting is therefore
// always safe, and memory bounded, whatever a slow member does: as long as
// snapshot versions have nothing that the group did not certify, a mark turns
// verdicts into "too old" and changes no other. A mark takes effect at once, in
// every answer; the memory is given back a little at a time with each later
// transaction, so that no delivery pays for it.
//
// # Bytes
//
// The write set travels as
//
//	write set := uvarint count  item(8, little-endian)*
//	item      := murmur3-64, seed 0, of the item's text
//	text      := index ½ schema ½ len(schema) table ½ len(table) part*
//	part      := value ½ len(value)
//
// where ½ is U+00BD in UTF-8 and lengths are decimal: MySQL's composition. The
// hash is part of the protocol. The serialised state is drawn in state.go.
package certifier
