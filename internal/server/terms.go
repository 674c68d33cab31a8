package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// terms are what a request that can write says of its transaction as a whole.
type terms interface {
	GetIsolation() kvpb.Isolation
	GetTransactionId() string
	GetGtid() string
	GetFreshness() *kvpb.Freshness
	GetFlowTag() string
	GetFlowWeight() uint32
}

// termsOf returns the terms that an operation which writes could have, were it
// a request of its own; nil for one that does not write.
func termsOf(op *kvpb.Op) terms {
	switch op := op.GetOp().(type) {
	case *kvpb.Op_Put:
		return op.Put
	case *kvpb.Op_Delete:
		return op.Delete
	case *kvpb.Op_Add:
		return op.Add
	}
	return nil
}

// noTerms refuses those of an operation. Were they ignored, a client would
// believe that its transaction had an id.
func noTerms(t terms) error {
	if t.GetIsolation() != 0 || t.GetTransactionId() != "" || t.GetGtid() != "" || t.GetFreshness() != nil || classed(t) {
		return fmt.Errorf("%w: isolation, transaction_id, gtid, freshness, flow_tag and flow_weight belong to the transaction, not to one of its operations", concordat.ErrInvalid)
	}
	return nil
}

// classed reports whether a transaction says of what class it is.
func classed(t terms) bool { return t.GetFlowTag() != "" || t.GetFlowWeight() != 0 }

func optionsOf(t terms) ([]concordat.TxOption, error) {
	options, err := freshness(t.GetFreshness())
	if err != nil {
		return nil, err
	}
	if epoch := t.GetFreshness().GetEpoch(); epoch != 0 {
		options = append(options, concordat.InEpoch(epoch))
	}
	switch i := t.GetIsolation(); i {
	case kvpb.Isolation_ISOLATION_UNSPECIFIED, kvpb.Isolation_ISOLATION_SNAPSHOT:
	case kvpb.Isolation_ISOLATION_SERIALIZABLE:
		options = append(options, concordat.WithIsolation(concordat.Serializable))
	default:
		return nil, fmt.Errorf("%w: isolation %d; this member knows ISOLATION_SNAPSHOT and ISOLATION_SERIALIZABLE", concordat.ErrInvalid, i)
	}
	if text := t.GetTransactionId(); text != "" {
		id, err := transactionID(text)
		if err != nil {
			return nil, err
		}
		options = append(options, concordat.WithID(id))
	}
	if text := t.GetGtid(); text != "" {
		wish, err := parseWish(text)
		if err != nil {
			return nil, err
		}
		options = append(options, concordat.WithGTID(wish))
	}
	if classed(t) {
		tag, weight := t.GetFlowTag(), int(min(t.GetFlowWeight(), math.MaxInt32))
		if err := concordat.CheckTag(tag, weight); err != nil { // of a transaction that only reads nobody else would say
			return nil, err
		}
		options = append(options, concordat.WithTag(tag, weight))
	}
	return options, nil
}

// freshness reads when a transaction may begin.
func freshness(f *kvpb.Freshness) (options []concordat.TxOption, err error) {
	if c := f.GetConsistency(); c != kvpb.Consistency_CONSISTENCY_UNSPECIFIED {
		level := concordat.Consistency(c)
		if c < 0 || c > math.MaxUint8 || !level.Valid() {
			return nil, fmt.Errorf("%w: consistency %d; this member knows those up to BEFORE_AND_AFTER", concordat.ErrInvalid, c)
		}
		options = append(options, concordat.WithConsistency(level))
	}
	if f != nil && f.AtMostNanos != nil {
		if f.GetAtMostNanos() < 0 {
			return nil, fmt.Errorf("%w: data at most %v old cannot be", concordat.ErrInvalid, time.Duration(f.GetAtMostNanos()))
		}
		options = append(options, concordat.AtMost(time.Duration(f.GetAtMostNanos())))
	}
	if text := f.GetSession(); text != "" {
		session, err := gtid.ParseSet(text)
		if err != nil {
			return nil, fmt.Errorf("%w: session: %w", concordat.ErrInvalid, err)
		}
		options = append(options, concordat.AfterGTIDs(session))
	}
	return options, nil
}

// seen is what a transaction has seen, for whom the answer is to tell that.
func seen(tx *concordat.Tx, f *kvpb.Freshness) string {
	if !f.GetTrack() {
		return ""
	}
	return tx.Snapshot().String()
}

// transactionID reads an id. The zero one would name nothing.
func transactionID(text string) (gtid.UUID, error) {
	id, err := gtid.ParseUUID(text)
	if err != nil {
		return id, fmt.Errorf("%w: transaction_id %q is no UUID: %w", concordat.ErrInvalid, text, err)
	}
	if id.IsZero() {
		return id, fmt.Errorf("%w: transaction_id is the zero UUID; leave it empty, or draw one", concordat.ErrInvalid)
	}
	return id, nil
}

// automatic begins a wish for the next GTID under a tag, as in MySQL's
// gtid_next.
const automatic = "AUTOMATIC:"

func parseWish(text string) (gtid.GTID, error) {
	if len(text) >= len(automatic) && strings.EqualFold(text[:len(automatic)], automatic) {
		tag, err := gtid.ParseTag(text[len(automatic):])
		if err == nil && tag == "" {
			err = errors.New("there is no tag")
		}
		if err != nil {
			return gtid.GTID{}, fmt.Errorf("%w: gtid %q: %w", concordat.ErrInvalid, text, err)
		}
		return gtid.GTID{Tag: tag}, nil
	}
	wish, err := gtid.Parse(text)
	if err != nil {
		return gtid.GTID{}, fmt.Errorf("%w: gtid %q: %w; write a GTID, or AUTOMATIC:tag", concordat.ErrInvalid, text, err)
	}
	return wish, nil
}

// repeated answers for a transaction that failed. When it has an id, and has
// committed under it before, its failure is no news: it was sent again, and has
// met its own writes.
func repeated(ctx context.Context, n *concordat.Node, t terms, failed error) (gtid.GTID, error) {
	if t.GetTransactionId() == "" || errors.Is(failed, concordat.ErrOutcomeUnknown) ||
		errors.Is(failed, concordat.ErrNotOnline) || errors.Is(failed, concordat.ErrClosed) || errors.Is(failed, concordat.ErrFailed) {
		return gtid.GTID{}, failed
	}
	id, err := transactionID(t.GetTransactionId())
	if err != nil {
		return gtid.GTID{}, failed
	}
	if o, err := n.Outcome(ctx, id); err == nil && o.State == concordat.OutcomeCommitted {
		return o.GTID, nil
	}
	return gtid.GTID{}, failed
}

// gtidText returns g as text, empty for the zero GTID.
func gtidText(g gtid.GTID) string {
	if g.IsZero() {
		return ""
	}
	return g.String()
}
