package concordat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/internal/standing"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// pause waits, and reports whether ctx lives on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// seeds are the addresses to ask for the group: those of the configuration or of
// an order, those on record, and the members of the last view known. Any
// goroutine may ask.
func (n *Node) seeds() []string {
	all := slices.Concat(n.configuredSeeds(), n.recordNow().Peers)
	for _, m := range n.known().View.Members {
		if m.UUID != n.id.Member {
			all = append(all, m.Address)
		}
	}
	var out []string
	for _, address := range all {
		if address != n.address && !slices.Contains(out, address) {
			out = append(out, address)
		}
	}
	return out
}

// configuredSeeds are the addresses that an operator has named.
func (n *Node) configuredSeeds() []string {
	if named := n.seedList.Load(); named != nil {
		return *named
	}
	return n.cfg.Seeds
}

// joining is the phase of a member that is in no view: it asks until it is, or
// is refused. A refusal to one that never was a member ends in OFFLINE, as with
// START GROUP_REPLICATION.
func (n *Node) joining(ctx context.Context) phase {
	var replaces gtid.UUID
	if len(n.recordNow().Peers) == 0 { // it never was a member
		replaces, _ = gtid.ParseUUID(n.cfg.Replaces) // Validate has seen it
	}
	claim, err := n.claim(ctx)
	if err == nil {
		n.note(EventJoining, n.id.Member, "asks %v", n.seeds())
		err = n.join(ctx, claim, replaces)
	}
	switch {
	case err == nil:
		return n.afterJoin()
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, ErrDiverged) || errors.Is(err, ErrJoinRefused):
		n.note(EventRefused, n.id.Member, "%v", err)
		n.setExit(&exit{err: err, final: true, never: true})
		n.move(standing.JoinRefused)
		return n.idle
	}
	n.fail(err)
	return nil
}

// afterJoin is the phase of a member that the group has just taken in.
func (n *Node) afterJoin() phase {
	n.rejoinTry.Store(0)
	n.setExit(nil)
	n.triesMade = 0
	n.entering = standing.Joined
	return n.living
}

// takeUp is the phase of a member in ERROR that has not lost its place as far as
// anybody can tell: it takes up its log, as after a restart. When all members
// have given up there is nobody else who could say that the group is back.
func (n *Node) takeUp() phase {
	n.rejoinTry.Store(0)
	n.setExit(nil)
	n.entering, n.patient = standing.Opened, true
	return n.living
}

// rejoin makes one try to be in the group again after the member was lost to
// it, and returns what comes next. While nobody has said that the group goes on
// without it, it keeps its place; byOrder is as for askPlace.
func (n *Node) rejoin(ctx context.Context, byOrder bool) (phase, error) {
	ctx, cancel := context.WithTimeout(ctx, n.tryPatience())
	defer cancel()
	if !n.log.Identity().Incarnation.IsZero() {
		p, err := n.askPlace(ctx, byOrder)
		switch e := n.lost(); {
		case err != nil && p.mute && e != nil && e.kept && ctx.Err() == nil:
			return n.takeUp(), nil
		case err != nil:
			return nil, err
		case p.in && p.began.IsZero():
			return n.afterJoin(), nil
		}
		if _, _, err := n.giveUpPlace(p); err != nil {
			return nil, err
		}
	}
	claim, err := n.claim(ctx)
	if err != nil {
		return nil, err
	}
	n.note(EventJoining, n.id.Member, "asks %v to be taken back", n.seeds())
	if err := n.join(ctx, claim, gtid.UUID{}); err != nil {
		return nil, err
	}
	return n.afterJoin(), nil
}

// tryPatience bounds a try to be in the group.
func (n *Node) tryPatience() time.Duration { return n.cfg.AutoRejoinInterval + joinPatience }

// joinPatience is for one member; others can be asked.
const joinPatience = 5 * time.Second

// holding is what a member keeps of what it holds when it becomes another one.
type holding byte

const (
	keepNothing   holding = iota // everything is to be cloned
	keepCommitted                // the log up to where it is known to be committed
	keepAll                      // the log to its end
)

// reidentify makes the member one that has never been in the group, under a new
// raft id, with what it is to keep.
//
// Where the group has only taken the member out, the tail of its log may go: an
// entry that is committed has a majority without it. Where the membership was
// forced nobody knows what of the tail was committed by its help, so it stays,
// and counts as committed: the group compares all of it with what it took over.
func (n *Node) reidentify(keep holding) error {
	id := gcs.Identity{Group: n.id.Group, Member: n.id.Member, RaftID: newRaftID(), Session: 1}
	last, err := n.holds(keep)
	if err != nil {
		return err
	}
	next := record{Peers: n.seeds()}
	switch keep {
	case keepAll:
		next.Ended = n.log.Identity().Incarnation.String()
	case keepCommitted, keepNothing:
		next.Ended = n.recordNow().Ended // nothing is known better now
	}
	encoded, err := next.encode()
	if err != nil {
		return err
	}
	err = n.log.Adopt(gcs.Adoption{
		Identity: id, Last: last, Record: encoded,
		HardState: &raftpb.HardState{Term: new(n.log.HardState().GetTerm()), Vote: new(uint64(0)), Commit: new(last)},
	})
	if err != nil {
		return err
	}
	n.onRecord.Store(&next)
	n.id.RaftID, n.id.Incarnation, n.id.Session = id.RaftID, id.Incarnation, id.Session
	n.spent = false
	return n.transport.SetIdentity(n.id)
}

// holds is the log index up to which a member keeps its log.
func (n *Node) holds(keep holding) (last uint64, err error) {
	needsClone, err := n.needsClone()
	if err != nil || keep == keepNothing || needsClone { // then there is nothing that could be gone on from
		return 0, err
	}
	newest, err := n.log.Checkpoint(^uint64(0))
	if err != nil {
		return 0, err
	}
	end, err := n.log.LastIndex()
	if err != nil {
		return 0, err
	}
	// A checkpoint is of what was delivered, also where the commit index on disk
	// lags behind.
	last = max(n.log.HardState().GetCommit(), n.engine.Position().Reached(), newest.Index)
	if last > end {
		return 0, fmt.Errorf("%w: log ends at %d, committed is %d", ErrDirectory, end, last)
	}
	if keep == keepAll {
		last = end
	}
	return last, nil
}

// noClaim is that of a member that holds nothing, or does not say what.
var noClaim replica.Claim

// claim says what this member holds, so that the group can see whether it is
// its own. It is found by going through the log once more: nothing but the log
// knows.
func (n *Node) claim(ctx context.Context) (replica.Claim, error) {
	end, err := n.log.LastIndex()
	if err != nil || end == 0 {
		return replica.Claim{}, err
	}
	r, err := n.replay(ctx, ^uint64(0), nil)
	if err != nil {
		return replica.Claim{}, err
	}
	if s := r.Status(); n.known().View.ID == 0 {
		n.standing.Store(&s) // it says whom to ask
	}
	return r.Claim(), nil
}

// replay goes through the log as far as it is committed, and changes nothing. It
// begins at the last checkpoint that the engine has reached, or, if the log still
// can, before the entry at after. Each transaction is given to each, if that is
// not nil.
func (n *Node) replay(ctx context.Context, after uint64, each func(*replica.Judged) error) (*replica.Replica, error) {
	cfg, err := n.replicaConfig()
	if err != nil {
		return nil, err
	}
	if cfg.Group.Checkpoint, err = n.checkpointBefore(after, cfg.Group.Checkpoint); err != nil {
		return nil, err
	}
	cfg.Group.Identity.Session++ // or what it sent in the last one would be its own
	cfg.Group.HardState.Commit = max(cfg.Group.HardState.Commit, cfg.Group.Applied)
	committed := cfg.Group.HardState.Commit
	cfg.Group.Applied, cfg.AppliedPart = cfg.Group.Checkpoint.Index, 0 // as an engine that has to apply it all
	r, err := replica.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	for effects := r.Step(); ; {
		for i := range effects.Judged {
			if each == nil {
				break
			}
			if err := each(&effects.Judged[i]); err != nil {
				return nil, err
			}
		}
		at := r.Status().Delivered
		if at >= committed {
			return r, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		writes := responses(effects.Writes)
		effects = r.Step(replica.Applied{Index: at}, replica.Written{Responses: writes})
		if r.Status().Delivered == at && len(writes) == 0 && !effects.More {
			return nil, fmt.Errorf("%w: its log cannot be gone through beyond %d, it is committed up to %d", ErrDirectory, at, committed)
		}
	}
}

// checkpointBefore returns the newest checkpoint at after or before that the log
// goes on from; if there is none the first that it does go on from, or newest.
func (n *Node) checkpointBefore(after uint64, newest gcs.Checkpoint) (gcs.Checkpoint, error) {
	if after >= newest.Index {
		return newest, nil
	}
	first, err := n.log.FirstIndex()
	if err != nil {
		return newest, err
	}
	earlier, err := n.log.Checkpoint(max(after, first-1))
	if err != nil || earlier.Index+1 < first || !replica.CheckpointServes(earlier, first) {
		return newest, err
	}
	return earlier, nil
}

// responses are those of writes that are as good as done.
func responses(writes []gcs.Write) (all []*raftpb.Message) {
	for i := range writes {
		all = append(all, writes[i].Responses...)
	}
	return all
}

// errNobodyAdds is why a member that asks members of its group goes on asking.
var errNobodyAdds = errors.New("no member could add this one; the group may be without a leader or a quorum")

// join asks the seeds, and whom they name, until the group has this member in
// its view, in the place of the member replaces unless that is zero. The group's
// own decision is final when it is a refusal; everything else can change.
func (n *Node) join(ctx context.Context, claim replica.Claim, replaces gtid.UUID) error {
	defer n.waits.Store(nil)
	req := n.joinRequest(claim)
	ended := claim.Forks // also of what it held, once that is given up
	// Until the raft id of whom this member replaces is known, it only asks.
	req.DryRun = !replaces.IsZero()
	var why error // the last round told
	for {
		var last error
		ask := n.seeds()
		for i := 0; i < len(ask) && i <= 2*gcs.MaxMembers; i++ {
			response, err := n.askToJoin(ctx, ask[i], req)
			var refused *transport.RefusedError
			if errors.As(err, &refused); n.leftBehind(response, refused, ended) {
				last = fmt.Errorf("the member at %s is still of an incarnation that an operator has ended", ask[i])
				continue
			}
			if err := n.learnIncarnation(response); err != nil {
				return err
			}
			switch {
			case refused != nil:
				if err := n.refusedToJoin(ctx, refused, claim); err != nil {
					return err
				}
				claim = replica.Claim{} // what was only here is nothing
				req.Identity, req.Claim = n.transport.Identity(), nil
			case err != nil && ctx.Err() != nil && why != nil:
				// Cut off by the end of the wait, it says less than what is known.
			case err != nil:
				last = err
			case usedUp(response):
				// The group had taken it in, in the place that it asked for, and out
				// again before it learned that.
				if claim, err = n.joinAnew(ctx); err != nil {
					return err
				}
				req = n.joinRequest(claim)
				ask = append(ask, ask[i])
			case req.DryRun && response.GetAccepted():
				return n.joined(response) // before it was stopped
			case req.DryRun && response.GetText() != "":
				if req.Replaces, err = whoHas(replaces, response.GetMembers()); err != nil {
					return err
				}
				req.DryRun = false
				ask = append(ask, ask[i])
			case response.GetAccepted():
				return n.joined(response)
			case response.GetLeaderAddress() != "" && response.GetLeaderAddress() != ask[i]:
				ask = append(ask, response.GetLeaderAddress())
			}
		}
		switch {
		case last != nil:
			why = last
		case ctx.Err() == nil || why == nil:
			why = errNobodyAdds
		}
		n.waits.Store(&waits{asked: n.seeds(), err: why})
		if !pause(ctx, askAgain) {
			return fmt.Errorf("concordat: join through seeds %v: %w: %w", n.seeds(), context.Cause(ctx), why)
		}
	}
}

// leftBehind reports whether an answer is from the incarnation that this member
// was left out of, or from one that its own came from. Such a group has ended, by
// what this member knows; that it may still have a majority does not make it the
// one to judge what the member holds.
func (n *Node) leftBehind(r *peerpb.JoinResponse, refused *transport.RefusedError, forks []replica.Fork) bool {
	var of gtid.UUID
	copy(of[:], r.GetIncarnation())
	if refused != nil {
		of = refused.Incarnation
	}
	if slices.ContainsFunc(forks, func(f replica.Fork) bool { return f.Incarnation == of }) {
		return true
	}
	ended := n.recordNow().Ended
	return ended != "" && of.String() == ended
}

// joinRequest asks for a place for what this member holds.
func (n *Node) joinRequest(claim replica.Claim) *peerpb.JoinRequest {
	return n.cfg.joinRequest(n.transport.Identity(), claim)
}

// usedUp reports whether the group has had a member under the raft id that asks,
// and has it no more: it will never take that one in again.
func usedUp(r *peerpb.JoinResponse) bool {
	return !r.GetAccepted() && r.GetReason() == peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN
}

// joinAnew gives the member, which was never told that it is in the group, a new
// raft id, and returns what it holds.
func (n *Node) joinAnew(ctx context.Context) (replica.Claim, error) {
	if err := n.reidentify(keepCommitted); err != nil {
		return replica.Claim{}, err
	}
	return n.claim(ctx)
}

// whoHas returns the raft id of the member with a UUID.
func whoHas(uuid gtid.UUID, members []*peerpb.Identity) (uint64, error) {
	for _, m := range members {
		if bytes.Equal(m.GetMember(), uuid[:]) {
			return m.GetRaftId(), nil
		}
	}
	return 0, fmt.Errorf("%w: it has no member %s that could be replaced; join without Replaces", ErrJoinRefused, uuid)
}

// refusedToJoin returns why the member cannot join. It returns nil when that is
// because of a history that is its own and holds no transaction: then nothing
// is lost by giving it up, and the member can be cloned.
func (n *Node) refusedToJoin(ctx context.Context, refused *transport.RefusedError, claim replica.Claim) error {
	if err := n.refusal(ctx, refused, claim); err != nil {
		return err
	}
	return n.reidentify(keepNothing)
}

// refusal returns what a refusal means for this member; nil if it is for a
// history that is its own and holds, as all of its log shows, no transaction.
func (n *Node) refusal(ctx context.Context, refused *transport.RefusedError, claim replica.Claim) error {
	if refused.Reason != peerpb.RefusalReason_REFUSAL_REASON_EXTRA_TRANSACTIONS || claim.Index == 0 {
		return fmt.Errorf("%w: %w", ErrJoinRefused, refused)
	}
	extra, err := gtid.ParseSet(refused.Extra)
	if err != nil {
		return fmt.Errorf("concordat: join: the group's list of extra transactions: %w", err)
	}
	told := DivergedError{Extra: extra, Common: refused.CommonIndex}
	diverged, err := n.errant(ctx, told, func(*replica.Judged) error { return nil })
	if err != nil {
		return err
	}
	if diverged.Extra.IsEmpty() && !diverged.Incomplete && diverged.Common > 0 {
		return nil
	}
	return diverged
}

func (n *Node) askToJoin(ctx context.Context, address string, req *peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	return transport.Join(ctx, address, req, n.cfg.TLS)
}

// learnIncarnation takes note of the group's incarnation as soon as any member
// names it, so that the leader's stream is not refused when it comes.
func (n *Node) learnIncarnation(r *peerpb.JoinResponse) error {
	var incarnation gtid.UUID
	if copy(incarnation[:], r.GetIncarnation()) == len(incarnation) && !incarnation.IsZero() {
		n.id.Incarnation = incarnation
		return n.transport.SetIdentity(n.id)
	}
	return nil
}

func (n *Node) joined(r *peerpb.JoinResponse) error {
	if n.id.Incarnation.IsZero() {
		return errors.New("concordat: join: the group's answer names no incarnation; it runs another version")
	}
	if err := n.log.SetIdentity(n.id); err != nil {
		return err
	}
	n.recovery.introduce(r.GetMembers())
	n.setPeers(n.recovery.introduced()...)
	return nil
}
