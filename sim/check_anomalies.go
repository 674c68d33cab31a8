package sim

import (
	"fmt"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/internal/replica"
)

// anomalies checks P7 over the whole of a history, when all is quiet: no
// isolation anomaly, by the dependencies between all transactions, those of
// scans and additions included. The last one to read is a member's final state.
type anomalies struct {
	indifferent
	history *history
	done    bool
}

func (*anomalies) promise() string { return "P7" }

func (c *anomalies) ended(by string, s applier.Snapshot) string {
	if c.done {
		return "" // P5 holds the others to the same state
	}
	c.done = true
	h := c.history
	last := &submission{seen: h.state.certified}
	for sp := range spaces {
		sc := scan{space: sp, to: 1 << 30}
		for k, b := range s.Scan(tables[sp], nil, nil, false) {
			at := key{sp, keyNumber(k)}
			v, ok := at.decode(b)
			if !ok {
				return fmt.Sprintf("%s ends with %x in %s, which nobody wrote", by, b, at)
			}
			sc.found = append(sc.found, read{key: at, value: v, found: true})
		}
		last.scans = append(last.scans, sc)
	}
	if err := s.Err(); err != nil {
		return fmt.Sprintf("%s cannot be read: %v", by, err)
	}
	all := append(append(append([]*submission(nil), h.ordered...), h.looks...), last)
	o := observer{by: map[replica.TransactionID]int{}, numbered: h.numbered}
	for i, sub := range h.ordered {
		if sub.commit > 0 || o.by[sub.id] == 0 {
			o.by[sub.id] = i + 1
		}
	}
	list := make([]observed, len(all))
	for i, sub := range all {
		list[i] = o.observe(sub)
	}
	return findAnomaly(list, func(i int) string {
		if i >= len(h.ordered) {
			return fmt.Sprintf("reader %d", i-len(h.ordered))
		}
		return all[i].id.String()
	})
}

// observer makes of submissions what the search for anomalies knows them as.
type observer struct {
	by       map[replica.TransactionID]int // submission that committed under an id, or one that did not, from 1
	numbered []*submission
}

func (o *observer) observe(s *submission) observed {
	t := observed{serializable: s.serializable, snapshot: int(s.seen), commit: s.commit}
	for _, r := range s.reads {
		t.reads = append(t.reads, o.sight(r))
	}
	for _, sc := range s.scans {
		seen := scanned{table: tables[sc.space].Name, from: sc.from, to: sc.to}
		for _, r := range sc.found {
			seen.found = append(seen.found, o.sight(r))
		}
		t.scans = append(t.scans, seen)
	}
	for i := range s.writes {
		w := &s.writes[i]
		ch := change{cell: w.key.cell(), amount: w.add}
		switch {
		case w.delta:
			ch.kind = adds
		case w.bytes == nil:
			ch.kind = removes
		}
		t.changes = append(t.changes, ch)
	}
	return t
}

func (o *observer) sight(r read) sight {
	v := sight{cell: r.key.cell()}
	switch {
	case !r.found:
	case r.key.space == sums:
		v.sum = r.value.number
		if n := r.value.put; n < 0 || n > len(o.numbered) {
			v.by = -1
		} else if n > 0 {
			v.by = o.by[o.numbered[n-1].id]
		}
	default:
		if v.by = o.by[r.value.writer]; v.by == 0 {
			v.by = -1 // a stranger
		}
	}
	return v
}

func (k key) cell() cell { return cell{tables[k.space].Name, k.n} }
