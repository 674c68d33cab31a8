// Package forced imposes a membership on a group that has lost its quorum: the
// protocol of force-members, as state machines.
//
// It owns what members say of themselves ([Survey]), the plan that an operator
// confirms ([Plan]), the one decision that follows from the survivors' logs
// ([Decide]), what a survivor keeps durably ([Record]) and who is told what in
// which order ([Coordinator]). It promises that all who adopt a plan adopt the
// same decision, that nothing is lost that was committed with the help of any
// survivor, that nothing delivered is cut, and that a plan can be gone on
// with after a crash of anybody at any point, by anybody who knows its id.
//
// It must never know what a transaction is, how bytes travel or reach a disk,
// or what time it is. It starts nothing and waits for nothing: who drives it
// sends what it asks for and hands back what came of it.
//
// # The steps
//
// Survey: everybody in the view is asked. A [Plan] is drawn, or refused.
//
// Freeze: each survivor stops its raft, waits for its log's writer, reads what
// its log holds and writes that down, together with the order. From then on it
// says nothing more in the old incarnation, not even after a restart: or it
// could help the old majority to commit what the plan does not know of. What it
// has written down is what it answers ever after, so the decision is a function
// of the plan: whoever asks, whenever, decides the same.
//
// Look: everybody is asked once more, when all survivors are frozen. Whoever
// forces another membership at the same time freezes before it looks, too, so
// of the two at least one sees the other, and ends. Both may; then a third plan
// has to take over what the two have frozen, in the name of an operator who
// knows that nobody carries them out any more.
//
// Decide: of the logs that have everything which any survivor knows to be
// committed, the longest, by last term and then by last index, is the seed. It
// has every entry in whose commitment any survivor had a part: whoever
// acknowledged to a leader what made the entry committed has it, in a log with
// the leader's term at its end or a later one. So has the seed a last term no
// less: when it is the same, logs of one term agree and the seed's is the longer
// one; when it is later, the leader of that term had the entry.
//
// An entry that a survivor holds without having had a part in its commitment is
// another thing. It was written in one term, left behind, and may have been
// committed in a later one by members who are all excluded, before the plan or
// even after it; and another survivor may have a later entry in its place that
// was never committed. Their logs cannot tell which of the two it was. What
// those excluded are known to have executed is listed as at risk.
//
// Align: the others cut what conflicts with the seed's log and fetch the rest.
//
// Adopt: when all are aligned, each writes the forced view behind the last
// entry, the later term and the new incarnation, in one batch. It begins to
// vote in the new incarnation only after that, so the members of it always
// needed a majority of themselves.
//
// # One plan after another
//
// A frozen member stays frozen until it has adopted the plan, or until a later
// plan that names this one as superseded freezes it anew. Nobody takes part in
// two: who has frozen for the later plan refuses every step of the earlier one,
// and who has adopted a plan has left the incarnation that another one is for.
// So of two plans that share a member at most one has its vote. And a plan goes
// on beside a member that is frozen for another one only if it names that one,
// and has taken over so many of its survivors that the rest can begin nothing.
//
// What a crash interrupts is begun again with the plan's id alone: any survivor
// that froze knows the order, and one that adopted knows the decision.
package forced
