// Package outcome remembers what became of the last transactions.
//
// It owns the replicated window of fates: every delivered transaction is noted
// under the id that its caller chose or drew, in the order of delivery, and the
// newest of them, up to a limit, can be asked for. It promises that what it
// answers and how it is encoded are a function of what it was told, in that
// order: two members that note the same transactions and set the same limits at
// the same positions agree in everything, one of them perhaps restored from a
// checkpoint on the way.
//
// It must never know who asks for a fate, what a reason means, or what time it
// is, and it must never ask anything of the outside.
//
// # The window
//
// The limit counts delivered transactions. A refused one that is tried again
// with the same id is superseded: its fate is forgotten, and its place in the
// window stays taken until it has moved out. So the window reaches back over as
// many deliveries as its limit says, whatever ids they bear, and its end is a
// matter of counting. What the limit excludes is forgotten at once; the memory
// is given back a little with each later transaction, so that no delivery pays
// for it.
//
// # The index
//
// Fates lie in chunks, in the order of their positions, and those whose ids
// fall into the same bucket are linked from the newest to the oldest. A link
// that leads to no position of the window ends a chain, so that moving the end
// of the window removes from every chain what it has to, without touching one.
// The buckets are those of linear hashing: they grow and shrink one at a time,
// and no delivery pays for a table that doubles.
//
// Callers choose ids, perhaps as their own clients ask them to, so the hash has
// a seed that whoever makes the window draws. With a fixed one, however strong, the
// ids that fall into one bucket can be looked for at leisure, and a window full
// of them makes each delivery on every member as slow as a walk through all of
// it. The seed decides which ids share a bucket, and so how long a call takes;
// no answer, no encoding and no count of allocations depends on it.
package outcome
