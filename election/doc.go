// Package election says who may write: the group's mode, its primary, and the
// epochs that fence off whoever no longer is.
//
// It owns the ranking of members, the replicated [State] of primaries and
// writers, the messages that change it and their judgement, and the versions and
// protocols that decide who joins and who is elected. It promises that its state
// is a function of the views and messages that it was told, in that order: two
// members that were told the same agree in every right, every epoch and every
// refusal, one of them perhaps restored from a checkpoint on the way. Nothing
// that comes from the log makes it panic. It must never know who leads the log,
// who is heard and who is silent, or what time it is: such opinions reach it as
// messages of the log, and count only as these say.
//
// # Rights and epochs
//
// A right to write belongs to a member, with the epoch since which it has had it
// without a break. A transaction bears the epoch in which it was handed over, and
// is admitted at its own position of the log if its origin has the right there
// and had it in that epoch already. So a member that goes on writing through a
// change of mode loses nothing, and one that lost the right and got it back
// cannot slip in what is left of the earlier time.
//
// Every change of the primary, of the mode, and every forced view begins an
// epoch. A message that decides something names the epoch that it was made for,
// and means nothing in another one. One that rests on the opinion of the leader
// of the log names the leader's term too, and means nothing when it was ordered
// in another: it may have waited with a leader that was deposed long ago.
//
// A planned change that takes a right away is open from the entry that asks for
// it until all who lose theirs have said that they are done with it, each behind
// its last transaction in its own order. So the change itself falls where nobody
// has anything left to lose. What a member gave up because the grace was over is
// part of the result.
//
// # Ranking
//
// Among the ONLINE members those of the lowest version are candidates, and the
// one of the highest weight, then of the lowest UUID, is elected. With
// PreferMostUpdated those that have applied most come first, as the leader's
// message has it. Differences from Group Replication:
//
//   - The lowest version is that of the ONLINE members. There, a member that is
//     RECOVERING counts too, and one of an older version leaves the group without
//     a primary until it is ONLINE.
//   - A silent primary is still ONLINE, so while it is the only one of the lowest
//     version, nobody can be elected until a view is without it.
//   - With PreferMostUpdated and more than one candidate a view that lost the
//     primary elects nobody; the leader's message does, with everybody's progress.
//   - The named primary of a planned change takes over when the old one falls
//     silent or goes, whatever its rank: that is what the operator asked for.
//   - A switch to single-primary mode whose target goes is aborted, and the mode
//     stays; there the next in rank takes its place.
//   - Members may join while a planned change is open.
//
// The lowest version may rise when a member restarts with a new build, or goes.
// In multi-primary mode the next lowest then get the right to write. Nobody loses
// it to a member of a lower version.
//
// # Texts
//
// Reasons and explanations are part of the state, for whoever asks later. No
// decision rests on them, so builds may word them differently.
package election
