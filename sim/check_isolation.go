package sim

import (
	"fmt"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/internal/replica"
)

// startBalance is what an account holds before anybody wrote to it.
const startBalance = 1000

// isolation checks P7 as clients can see it: a snapshot shows the state after
// some number of certified transactions, exactly (so nothing aborted, nothing
// intermediate, nothing out of order, and no money gained or lost); and who
// read a key and wrote it wrote over what it had read (no lost update). With
// the oracle's rule for writes these are the definition of snapshot isolation.
type isolation struct {
	indifferent
	history *history
	last    map[key]replica.TransactionID // who wrote it last
}

func (*isolation) promise() string { return "P7" }

func (c *isolation) read(by string, s *submission) string {
	if _, text := c.history.executed(by, s.snapshot); text != "" {
		return text
	}
	sum, balances := int64(0), 0
	for _, r := range s.reads {
		want, _ := r.key.decode(c.history.state.read(r.key, s.seen))
		if r.value != want {
			return fmt.Sprintf("%s shows in %s, after %d transactions, number %d by %s; it must be number %d by %s",
				by, r.key, s.seen, r.value.number, r.value.writer, want.number, want.writer)
		}
		if r.key.space == accounts {
			sum += r.value.balance()
			balances++
		}
	}
	if len(s.writes) == 0 && sum != int64(balances)*startBalance {
		return fmt.Sprintf("%s shows a sum of %d in %d accounts after %d transactions", by, sum, balances, s.seen)
	}
	return ""
}

// balance is what an account with this value holds.
func (v value) balance() int64 {
	if v.writer.IsZero() {
		return startBalance
	}
	return v.number
}

func (c *isolation) delivered(by string, e, first *entry) string {
	if first != nil {
		return ""
	}
	for _, j := range e.judged {
		s := c.history.submits[j.attempt()]
		if s == nil || j.verdict.Outcome != certifier.Certified {
			continue
		}
		for _, r := range s.reads {
			if r.key.space != sums && s.wrote(r.key) && c.last[r.key] != r.value.writer {
				return fmt.Sprintf("%s at %d: the update of %s by %s is lost to %s, who had read what %s wrote",
					by, e.index, r.key, c.last[r.key], s.id, r.value.writer)
			}
		}
		for i := range s.writes {
			w := &s.writes[i]
			c.last[w.key] = s.id
			if w.bytes == nil {
				c.last[w.key] = replica.TransactionID{}
			}
		}
	}
	return ""
}

func (s *submission) wrote(k key) bool {
	for _, w := range s.writes {
		if w.key == k {
			return true
		}
	}
	return false
}

func (c *isolation) ended(by string, s applier.Snapshot) string {
	sum, n := int64(0), 0
	for _, b := range s.Scan(tables[accounts], nil, nil, false) {
		v, _ := decodeValue(b)
		sum += v.balance()
		n++
	}
	if err := s.Err(); err != nil {
		return fmt.Sprintf("%s cannot be read: %v", by, err)
	}
	if sum != int64(n)*startBalance {
		return fmt.Sprintf("%s ends with a sum of %d in %d accounts", by, sum, n)
	}
	return ""
}
