package outlook

import (
	"fmt"
	"slices"
	"strings"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/standing"
)

// Code is a diagnosis in one word, for programs. Those that begin with OK, and
// NO_QUORUM, are MySQL Shell's.
type Code string

// The codes.
const (
	// OK: all members are there, and at least one may fail.
	OK Code = "OK"
	// OKPartial: at least one more may fail; somebody is UNREACHABLE or
	// RECOVERING.
	OKPartial Code = "OK_PARTIAL"
	// OKNoTolerance: all members are there, and none may fail.
	OKNoTolerance Code = "OK_NO_TOLERANCE"
	// OKNoTolerancePartial: none may fail; somebody is UNREACHABLE or
	// RECOVERING.
	OKNoTolerancePartial Code = "OK_NO_TOLERANCE_PARTIAL"
	// LogStalled: the disk of this member's log does not answer, or those of so
	// many others that nothing commits.
	LogStalled Code = "LOG_STALLED"
	// NoLeader: a quorum is there and is electing its leader.
	NoLeader Code = "NO_LEADER"
	// NoQuorum: this member hears too few voters; nothing commits here.
	NoQuorum Code = "NO_QUORUM"
	// PrimaryAlone: this member is the primary of a single-primary group, and is
	// heard by too few of the others.
	PrimaryAlone Code = "PRIMARY_ALONE"
	// NoPrimary: nobody can be primary.
	NoPrimary Code = "NO_PRIMARY"
	// PrimarySilent: the primary is UNREACHABLE.
	PrimarySilent Code = "PRIMARY_SILENT"
	// RecoveringHere: this member is catching up.
	RecoveringHere Code = "RECOVERING"
	// FrozenHere: this member takes no part until a plan of forced membership is
	// carried out.
	FrozenHere Code = "FROZEN"
	// ErrorHere: this member lost its place, or cannot fill it.
	ErrorHere Code = "ERROR"
	// OfflineHere: this member is in no group.
	OfflineHere Code = "OFFLINE"
)

// Facts is what a member knows about itself and its group.
type Facts struct {
	State       standing.State
	View        gcs.View  // the last one it knows
	Unreachable []uint64  // raft ids of those it does not hear
	Stalled     []uint64  // raft ids of those whose disks do not answer, its own with LogStalled
	Quorum      bool      // it hears a majority of the view's voters, itself included
	Leader      bool      // it knows who leads
	LogStalled  bool      // its log's disk does not answer
	Recovery    string    // how it is catching up, as the predicate of a sentence; may be empty
	Frozen      gtid.UUID // the plan for which it is frozen, zero for none
	Err         string    // why it is in ERROR
	RejoinTry   int       // the try to come back that is under way or next, from 1; 0 for none
	RejoinTries int       // how many there will be
	// LeftOutBy is the incarnation that a forced view without this member
	// began, zero for none.
	LeftOutBy gtid.UUID
	Diverged  bool // it holds transactions that the group does not
	// Election is who may write, by what the member has delivered; Alone says
	// that the member is the primary and too few of the others hear it.
	Election election.Snapshot
	Alone    bool
}

// Diagnosis is what an operator must know, and do.
type Diagnosis struct {
	Code Code
	Text string // a few sentences: what is, and what to do
}

// Diagnose returns the gravest thing that there is to say.
func Diagnose(f Facts) Diagnosis {
	switch {
	case !f.Frozen.IsZero():
		return Diagnosis{FrozenHere, f.frozen()}
	case f.State == standing.Error:
		return Diagnosis{ErrorHere, f.failed()}
	case f.State != standing.Recovering && f.State != standing.Online:
		return Diagnosis{OfflineHere, "This member is in no group. Join one with concordat join, or found one with Bootstrap."}
	case len(f.View.Members) > 0 && !f.Quorum:
		return Diagnosis{NoQuorum, f.withoutQuorum()}
	case f.stuck():
		return Diagnosis{LogStalled, f.withoutDisks()}
	case f.LogStalled:
		return Diagnosis{LogStalled, "The disk of this member's log does not answer, so its vote is missing. " +
			"Look after the disk; the member goes on by itself when writes come back, and can be replaced if they do not."}
	case f.State == standing.Recovering:
		return Diagnosis{RecoveringHere, f.recovering()}
	case !f.Leader:
		return Diagnosis{NoLeader, "A quorum is there and elects its leader; transactions wait. " +
			"If that lasts, look at the network between the members."}
	}
	rights := f.rights()
	if rights.Code != "" {
		return rights
	}
	d := f.fine()
	if rights.Text != "" {
		d.Text += " " + rights.Text
	}
	return d
}

// Waiting says for whom a member waits that has a view and hears no quorum of
// it, to be read after "waits for": who is missing, how many are here, how many
// are needed. It is empty when the member does not wait.
func (f Facts) Waiting() string {
	if f.Quorum || !f.Frozen.IsZero() || len(f.View.Members) == 0 || (f.State != standing.Recovering && f.State != standing.Online) {
		return ""
	}
	o := f.outlook()
	if o.HasQuorum() {
		return fmt.Sprintf("word from %d of the %s of the last view; none is known to be missing", o.Quorum, count(o.Voters, "voter"))
	}
	return fmt.Sprintf("%s; %d of the %s of the last view %s here, and %d must be",
		f.missing(o), o.Reachable, count(o.Voters, "voter"), is(o.Reachable), o.Quorum)
}

// missing says which voters are not heard, and how many of them are needed.
func (f Facts) missing(o Outlook) string {
	names := f.gone()
	if need := o.Quorum - o.Reachable; need < len(names) {
		return fmt.Sprintf("any %d of %s", need, list(names))
	}
	return list(names)
}

// gone names the voters that are not heard.
func (f Facts) gone() (names []string) {
	for _, m := range f.View.Members {
		if m.State == gcs.Online && f.silent(m) {
			names = append(names, name(m))
		}
	}
	return names
}

func (f Facts) withoutQuorum() string {
	o := f.outlook()
	if o.HasQuorum() {
		return "Nothing commits here before this member hears a quorum. It waits for " + f.Waiting() + "."
	}
	text := fmt.Sprintf("Nothing commits here: this member hears %d of %s, and %d are needed. Bring back %s.",
		o.Reachable, count(o.Voters, "voter"), o.Quorum, f.missing(o))
	if f.State == standing.Recovering {
		text = "This member hears no quorum of its group, and goes on by itself when one is there. It waits for " + f.Waiting() + "."
	}
	var heard []string
	for _, m := range f.View.Members {
		if m.State == gcs.Online && !f.silent(m) {
			heard = append(heard, m.UUID.String())
		}
	}
	if len(heard) == 0 {
		return text + " If they are gone for good, force the membership on a member that is ONLINE by the view."
	}
	return text + fmt.Sprintf(" Only if they are gone for good, and stopped: concordat force-members --members %s",
		strings.Join(heard, ","))
}

func (f Facts) frozen() string {
	return fmt.Sprintf("This member takes no part in its group before plan %s of forced membership is carried out. "+
		"Run concordat force-members --plan-id %s again, with the same members, where it was begun.", f.Frozen, f.Frozen)
}

func (f Facts) failed() string {
	text := "This member is out of service"
	if f.Err != "" {
		text += ": " + f.Err
	}
	text = strings.TrimSuffix(text, ".") + "."
	switch {
	case f.Diverged:
		return text + " It holds transactions that the group does not: look at them, then concordat rejoin --discard-errant saves them and takes the group's state."
	case f.RejoinTry > 0:
		return text + fmt.Sprintf(" It comes back by itself: try %d of %d.", f.RejoinTry, f.RejoinTries)
	case !f.LeftOutBy.IsZero():
		return text + fmt.Sprintf(" The group went on without it, as incarnation %s: bring it back with concordat rejoin.", f.LeftOutBy)
	}
	return text + " When the cause is gone, bring it back with concordat rejoin."
}

func (f Facts) recovering() string {
	text := "This member is catching up with its group"
	if f.Recovery != "" {
		text += " and " + f.Recovery
	}
	return text + "; it serves transactions when it is ONLINE."
}

// fine is the diagnosis of a member that serves transactions.
func (f Facts) fine() Diagnosis {
	o := f.outlook()
	stalled := f.stalled()
	var silent, learning []string
	for _, m := range f.View.Members {
		switch {
		case f.silent(m):
			silent = append(silent, name(m))
		case m.State != gcs.Online:
			learning = append(learning, name(m))
		}
	}
	d := Diagnosis{Code: fineCode(o.Tolerance > 0, len(silent)+len(learning) > 0)}
	d.Text = fmt.Sprintf("The group has %s, %d with a vote, and %s.", count(o.Members, "member"), o.Voters, mayFail(o, len(silent)+len(stalled) > 0))
	if len(stalled) > 0 {
		d.Text += fmt.Sprintf(" The %s, and what commits does so without. Look after the %s, or stop the member and give its place away with concordat replace.",
			stall(stalled), plural(len(stalled), "disk"))
	}
	switch {
	case len(silent) > 0:
		d.Text += fmt.Sprintf(" %s %s UNREACHABLE: bring back who is missing, or give the place away with concordat replace, or end it with concordat remove.",
			list(silent), is(len(silent)))
	case len(learning) > 0:
		d.Text += fmt.Sprintf(" %s %s RECOVERING, and will vote when ONLINE.", list(learning), is(len(learning)))
	case o.Tolerance == 0 && len(stalled) == 0:
		d.Text += fmt.Sprintf(" Join %s more, so that one may fail.", count(3-o.Voters, "member"))
	}
	return d
}

func fineCode(tolerant, partial bool) Code {
	switch {
	case tolerant && partial:
		return OKPartial
	case tolerant:
		return OK
	case partial:
		return OKNoTolerancePartial
	}
	return OKNoTolerance
}

func mayFail(o Outlook, some bool) string {
	switch {
	case o.Tolerance == 0 && some:
		return "no other may fail"
	case o.Tolerance == 0:
		return "none may fail"
	case some:
		return fmt.Sprintf("%d more may fail", o.Tolerance)
	}
	return fmt.Sprintf("%d may fail", o.Tolerance)
}

// outlook is how the member's group stands.
func (f Facts) outlook() Outlook { return Of(f.View, f.Unreachable, f.Stalled...) }

// stuck reports whether nothing commits though a quorum is heard, for want of
// disks that answer.
func (f Facts) stuck() bool {
	o := f.outlook()
	return o.HasQuorum() && !o.Commits()
}

// withoutDisks is the diagnosis of a member of a group that is stuck.
func (f Facts) withoutDisks() string {
	o := f.outlook()
	text := fmt.Sprintf("Nothing commits: the %s, %d of the %s can acknowledge a write, and %d must. Look after the %s",
		stall(f.stalled()), o.sound(), count(o.Voters, "voter"), o.Quorum, plural(o.Stalled, "disk"))
	if gone := f.gone(); len(gone) > 0 {
		text += ", or bring back " + list(gone)
	}
	return text + "; the group goes on by itself."
}

// stalled names the voters that are heard and whose disks do not answer.
func (f Facts) stalled() (names []string) {
	for _, m := range f.View.Members {
		if m.State == gcs.Online && !f.silent(m) && slices.Contains(f.Stalled, m.RaftID) {
			names = append(names, name(m))
		}
	}
	return names
}

// stall says whose disks stall, to be read after an article.
func stall(names []string) string {
	if len(names) == 1 {
		return "disk of " + names[0] + " stalls"
	}
	return "disks of " + list(names) + " stall"
}

// silent reports whether the member does not hear m.
func (f Facts) silent(m gcs.Member) bool {
	return slices.Contains(f.Unreachable, m.RaftID)
}

func name(m gcs.Member) string { return fmt.Sprintf("%s (%s)", m.UUID, m.Address) }

func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

func count(n int, what string) string {
	return fmt.Sprintf("%d %s", n, plural(n, what))
}

func plural(n int, what string) string {
	if n == 1 {
		return what
	}
	return what + "s"
}

func is(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
