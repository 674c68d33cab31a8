package sim

import (
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// oracle is a second certifier, exact and without bounds, that P4's common
// verdict has to agree with. It knows transactions by their place in one
// sequence and keys by name: a transaction conflicts when a key that it touches
// was touched, in a way that the matrix excludes, by a transaction that its
// snapshot does not contain, or when one of those wrote into a range that it
// scanned. It also remembers all ids.
//
// What is too old depends on where marks may fall. The oracle only knows that
// a mark at a log index never forgets what came after that index.
type oracle struct {
	indifferent
	history   *history
	settings  replica.Settings
	blocks    bool // GTIDs have not always followed the order
	intake    intake
	certified uint64
	touched   map[key][certifier.Kinds]uint64 // number of the last certified transaction that did so
	placed    []placedKey
	dropped   uint64 // newest transaction of which a written key is not remembered
	numbers   map[gtid.GTID]uint64
	reached   []uint64 // by log index: certified up to and including it
	marked    uint64   // certified up to the latest mark

	fates  []fate
	latest map[replica.TransactionID]int // place of the last of them, from 1
	forgot int                           // how many of the first are not remembered
	recall []recall                      // by log index
}

// placedKey is a key that was written or added to.
type placedKey struct {
	number uint64
	key    key
	kind   certifier.Kind
}

// fate is what became of a transaction that was not a duplicate.
type fate struct {
	id      replica.TransactionID
	index   uint64
	verdict certifier.Verdict
}

// recall is which fates are remembered after a log entry: those from+1 to to.
type recall struct{ from, to int }

func newOracle(h *history) *oracle {
	return &oracle{
		history: h, touched: map[key][certifier.Kinds]uint64{}, intake: newIntake(),
		numbers: map[gtid.GTID]uint64{}, latest: map[replica.TransactionID]int{},
	}
}

func (*oracle) promise() string { return "P4" }

func (o *oracle) delivered(by string, e, first *entry) string {
	if first != nil {
		return ""
	}
	f, _ := readFrame(e.raw)
	// A mark may stand before the transactions of its frame.
	if f.mark > 0 && f.mark < e.index {
		o.marked = max(o.marked, o.reached[f.mark-1])
	}
	accepted := o.intake.accepts(&f)
	if e.view != nil {
		o.intake.view = *e.view
	}
	judged := e.judged
	for _, p := range f.parts {
		switch {
		case p.settings != nil && accepted:
			o.configure(*p.settings)
		case p.transaction && len(judged) > 0: // else the frame was passed over
			if text := o.deliver(by, e.index, &judged[0]); text != "" {
				return text
			}
			judged = judged[1:]
		}
	}
	for i := range judged { // of entries that are no frames, in tests
		if text := o.deliver(by, e.index, &judged[i]); text != "" {
			return text
		}
	}
	o.reached = append(o.reached, o.certified)
	o.recall = append(o.recall, recall{o.forgot, len(o.fates)})
	if n := e.executed.Count(); n != o.certified {
		return fmt.Sprintf("%s has executed %s at %d, but %d transactions were certified", by, e.executed, e.index, o.certified)
	}
	return ""
}

func (o *oracle) configure(s replica.Settings) {
	if s.Version != o.settings.Version+1 {
		return
	}
	if o.settings.Version > 0 {
		o.history.reached[markSettings]++
	}
	o.settings = s
	o.blocks = o.blocks || s.Certifier.BlockSize > 1
	o.bound()
}

// bound forgets what the settings do not allow to be remembered.
func (o *oracle) bound() {
	if n := len(o.placed) - o.settings.Certifier.RangeWrites; n > 0 && o.settings.Version > 0 {
		o.dropped = max(o.dropped, o.placed[n-1].number)
	}
	if n := len(o.fates) - o.settings.Outcomes; o.settings.Version > 0 {
		o.forgot = max(o.forgot, n)
	}
}

func (o *oracle) deliver(by string, index uint64, j *judged) string {
	s := o.history.submits[j.attempt()]
	if s == nil {
		return "" // a violation of P2
	}
	objection := o.judge(s, j.verdict)
	if j.verdict.Outcome != certifier.Duplicate {
		o.fates = append(o.fates, fate{j.id, index, j.verdict})
		o.latest[j.id] = len(o.fates)
		o.bound()
	}
	if objection == "" {
		return ""
	}
	return fmt.Sprintf("%s at %d: transaction %s with a snapshot of %d transactions is %s; %s",
		by, index, j.id, s.seen, verdictText(j.verdict), objection)
}

// committed returns the GTID of the transaction that has committed under an id,
// if that is remembered.
func (o *oracle) committed(id replica.TransactionID) (gtid.GTID, bool) {
	n := o.latest[id]
	if n <= o.forgot || o.fates[n-1].verdict.Outcome != certifier.Certified {
		return gtid.GTID{}, false
	}
	return o.fates[n-1].verdict.GTID, true
}

// judge returns what is wrong with a verdict, "" if nothing is.
func (o *oracle) judge(s *submission, v certifier.Verdict) string {
	if g, ok := o.committed(s.id); ok || v.Outcome == certifier.Duplicate {
		if v.Outcome != certifier.Duplicate || !ok || v.GTID != g {
			return fmt.Sprintf("under its id %v has committed (known: %t)", g, ok)
		}
		return ""
	}
	switch v.Outcome {
	case certifier.Fenced:
		return "" // it was not looked at; P9 says whether that is right
	case certifier.GivenUp, certifier.TooLarge:
		return "" // the assembly says whether that is right
	default:
	}
	want := o.clash(s)
	stale := len(s.ranges()) > 0 && s.seen < o.dropped
	switch v.Outcome {
	case certifier.Certified:
		switch {
		case want.winner != 0:
			return want.text
		case stale:
			return fmt.Sprintf("it has scanned, and of the keys written up to transaction %d not all are remembered", o.dropped)
		}
		return o.certify(s, v)
	case certifier.Conflict:
		if want.winner == 0 {
			return "the snapshot contains everybody whom it excludes"
		}
		c := v.Clash
		if c.Item != want.item || c.Range != want.scan || c.Incoming != want.incoming || c.Earlier != want.earlier ||
			o.numbers[c.Winner] != want.winner || c.Sequence != want.winner {
			return "the first conflict is another: " + want.text
		}
		if stale && c.Range >= 0 {
			return fmt.Sprintf("the writes up to transaction %d are not all remembered", o.dropped)
		}
	case certifier.SnapshotTooOld:
		switch {
		case stale && want.item < 0:
			o.history.reached[markScanTooOld]++
		case s.seen >= o.marked:
			return fmt.Sprintf("the latest history mark is at transaction %d, the writes are remembered from %d on", o.marked, o.dropped)
		}
	case certifier.Exhausted, certifier.GTIDTaken, certifier.GTIDSpread, certifier.Duplicate, certifier.Unreadable, certifier.Fenced, certifier.GivenUp, certifier.TooLarge, certifier.Unapplied:
		return "there are numbers left"
	}
	return ""
}

// conflict is what a transaction loses to.
type conflict struct {
	item, scan        int
	incoming, earlier certifier.Kind
	winner            uint64 // 0 for none
	text              string
}

// clash looks for the first conflict of a transaction.
func (o *oracle) clash(s *submission) conflict {
	none := conflict{item: -1, scan: -1}
	for i, it := range s.items() {
		c := none
		for kind, n := range o.touched[it.key] {
			if n > s.seen && n > c.winner && it.kind.ConflictsWith(certifier.Kind(kind)) {
				c = conflict{item: i, scan: -1, incoming: it.kind, earlier: certifier.Kind(kind), winner: n}
			}
		}
		if c.winner != 0 {
			c.text = fmt.Sprintf("its item %d, a %v of %s, excludes the %v of transaction %d", i, it.kind, it.key, c.earlier, c.winner)
			return c
		}
	}
	for i, sc := range s.ranges() {
		for _, p := range slices.Backward(o.placed) {
			if p.number <= s.seen {
				break
			}
			if p.key.space == sc.space && p.key.n >= sc.from && p.key.n < sc.to {
				return conflict{
					item: -1, scan: i, incoming: certifier.Read, earlier: p.kind, winner: p.number,
					text: fmt.Sprintf("its scan of %v from %d to %d has missed %s of transaction %d", sc.space, sc.from, sc.to, p.key, p.number),
				}
			}
		}
	}
	return none
}

// certify checks number and interval: the interval must reach the last
// transaction that this one depends on, and reach no further unless a mark made
// the certifier forget how far.
func (o *oracle) certify(s *submission, v certifier.Verdict) string {
	last := uint64(0)
	for _, it := range s.items() {
		t := o.touched[it.key]
		switch it.kind {
		case certifier.Write, certifier.Delta:
			last = max(last, t[certifier.Write], t[certifier.Delta], t[certifier.Reference])
		case certifier.Reference:
			last = max(last, t[certifier.Write], t[certifier.Delta])
		case certifier.Read:
		}
	}
	o.certified++
	for _, it := range s.items() {
		if it.kind == certifier.Read {
			continue
		}
		t := o.touched[it.key]
		t[it.kind] = o.certified
		o.touched[it.key] = t
		if it.kind != certifier.Reference {
			o.placed = append(o.placed, placedKey{o.certified, it.key, it.kind})
		}
	}
	o.bound()
	if v.GTID.UUID != o.history.group || o.numbers[v.GTID] != 0 || v.Sequence != o.certified || !o.blocks && v.GTID.Number != o.certified {
		return fmt.Sprintf("it is transaction %d of the group", o.certified)
	}
	o.numbers[v.GTID] = o.certified
	if v.LastCommitted < last || v.LastCommitted > max(last, o.marked) {
		return fmt.Sprintf("it depends on transaction %d, and the latest history mark is at %d", last, o.marked)
	}
	return ""
}

// outcome checks what a member says of a transaction.
func (o *oracle) outcome(id replica.TransactionID, a replica.OutcomeAnswer) string {
	var r recall
	if a.Until > 0 {
		if a.Until > uint64(len(o.recall)) {
			return fmt.Sprintf("it says what it knows up to %d, which nobody has delivered", a.Until)
		}
		r = o.recall[a.Until-1]
	}
	for n := r.to; n > r.from; n-- {
		f := &o.fates[n-1]
		if f.id != id {
			continue
		}
		if o.history.poisons[id] && a.Known && !a.Fate.Committed && certifier.Outcome(a.Fate.Reason) == certifier.Unapplied {
			return "" // and before all had said so it had committed
		}
		committed := f.verdict.Outcome == certifier.Certified
		if !a.Known || a.Fate.Committed != committed || a.Fate.Index != f.index ||
			committed && a.Fate.GTID != f.verdict.GTID || !committed && a.Fate.Reason != byte(f.verdict.Outcome) {
			return fmt.Sprintf("of transaction %s it says %+v, which was %s at %d", id, a, verdictText(f.verdict), f.index)
		}
		return ""
	}
	if a.Known {
		return fmt.Sprintf("of transaction %s it says %+v, and there was none", id, a)
	}
	return ""
}

// touch is what a transaction does with a key, as its write set has it.
type touch struct {
	kind certifier.Kind
	key  key
}

// items lists what the transaction touches in the order of its write set: by
// kind, and within a kind as it came about.
func (s *submission) items() []touch {
	if s.poison {
		return []touch{{certifier.Write, key{registers, poisonKeys + s.number}}}
	}
	var items []touch
	for _, kind := range []certifier.Kind{certifier.Write, certifier.Delta} {
		for i := range s.writes {
			if w := &s.writes[i]; w.kind() == kind {
				items = append(items, touch{kind, w.key})
			}
		}
	}
	for _, k := range s.refs {
		items = append(items, touch{certifier.Reference, k})
	}
	if !s.serializable {
		return items
	}
	for _, r := range s.reads {
		items = append(items, touch{certifier.Read, r.key})
	}
	return items
}

// ranges are the scans that are certified.
func (s *submission) ranges() []scan {
	if s.serializable {
		return s.scans
	}
	return nil
}
