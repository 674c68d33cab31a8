// Package certifier decides which transactions commit.
//
// It owns the write set of a transaction, the history of who wrote what last,
// and the numbering of what commits. It promises that its verdicts are a
// function of the transactions and marks it was given, in their order: two
// members that certify the same sequence, one of them perhaps restored from a
// checkpoint on the way, give the same verdict, the same GTID and the same
// parallelisation interval at each position. The first committer wins: of two
// transactions of which neither saw the other and that touched a common item in
// ways that exclude each other, the one delivered first commits.
//
// It must never know how a payload looks, who waits for a verdict, or what
// time it is, and it must never ask anything of the outside.
//
// # The rule
//
// A transaction comes with its snapshot version S, the GTID set of what it
// could see. For each item that a certified transaction touched, the history
// has that transaction's own snapshot version together with its GTID: the
// stored set T. The incoming transaction conflicts if and only if, for one of
// its items, somebody touched the item in a way that excludes its own (the
// matrix is in kind.go) and T is not a subset of S. This is what Group
// Replication computes, for writes; the popular wording, "S is a subset of T",
// lets incomparable sets pass.
//
// A serializable transaction has reads too, of items and of ranges of keys. It
// conflicts if somebody whom it has not seen wrote or added to one of those
// items, or to a key that lies in one of those ranges, or did not say what it
// changed. Only the last written keys are remembered for that: a transaction
// that scanned with an older S fails as too old.
//
// A transaction depends on the last one before it that touched one of its items,
// except that references of one row do not wait for each other. Reads wait for
// nothing and nothing waits for them.
//
// # How it is fast
//
// The first n certified transactions have n GTIDs, E(n). In a group whose
// members apply what was certified, in order, and nothing else, every S is some
// E(n), which is found by counting and then checked. That E(n) has all of a
// transaction's T if and only if that one is among the first n. So for each item
// the history has the sequence of who touched it last, and certification is a
// lookup and a comparison. Any other S is judged exactly as well: then the
// records of those transactions are looked at.
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
// The text of an item is MySQL's composition,
//
//	text := index ½ schema ½ len(schema) table ½ len(table) part*
//	part := value ½ len(value)
//
// where ½ is U+00BD in UTF-8 and lengths are decimal. An item is the murmur3-64
// of its text with seed 0, which is part of the protocol. How a write set
// travels is drawn in writeset.go, the serialised state in state.go.
package certifier
