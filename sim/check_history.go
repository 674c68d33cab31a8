package sim

import "fmt"

// historySlack is how far a certification history may stand above its limit
// beside what is certified while a mark is on its way: marks fall on places that
// lie so far apart.
const historySlack = 2 << 10

// growth watches over P12 for the certification history: it stays within the
// limit of the group's settings, but for what is certified until a mark that
// the leader proposes is delivered.
type growth struct {
	total  int // weight certified ever
	recent []grown
	most   int // weight certified within markTime, at most
	limit  int // greatest of the group's settings
	bytes  int // greatest of the group's settings
}

// weightBytes is more than an item or a transaction takes.
const weightBytes = 128

// grown is how much had been certified at a time.
type grown struct {
	at    int64
	total int
}

// certified notes what an entry has added to the history.
func (g *growth) certified(now, within int64, weight int) {
	g.total += weight
	g.recent = append(g.recent, grown{now, g.total})
	first := 0
	for g.recent[first].at < now-within {
		first++
	}
	if first > 0 {
		g.recent = g.recent[first-1:]
	}
	g.most = max(g.most, g.total-g.recent[0].total)
}

func (g *growth) check(items, bytes int) string {
	if bound := g.bytes + weightBytes*(g.most+historySlack); bytes > bound {
		return fmt.Sprintf("remembers %d bytes; the limit is %d, and at most %d items and transactions were certified while a mark was on its way",
			bytes, g.bytes, g.most)
	}
	if bound := g.limit + g.most + historySlack; items > bound {
		return fmt.Sprintf("remembers %d items and transactions; the limit is %d, and at most %d were certified while a mark was on its way",
			items, g.limit, g.most)
	}
	return ""
}
