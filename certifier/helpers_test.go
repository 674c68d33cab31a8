package certifier

import (
	"encoding/binary"

	"github.com/concordatdb/concordat/gtid"
)

// roomy are settings whose limits nothing here reaches.
var roomy = Settings{HistoryItems: 1 << 30, HistoryBytes: 1 << 40, RangeWrites: 1 << 10}

// encodeWrites encodes writes of items whose keys are the items' bytes.
func encodeWrites(list []Item) []byte {
	ws := WriteSet{}
	for _, item := range list {
		ws.items[Write] = append(ws.items[Write], item)
		ws.places[Write] = appendPlace(ws.places[Write], 0, binary.BigEndian.AppendUint64(nil, uint64(item)))
	}
	if len(list) > 0 {
		ws.spaces = []Space{1}
	}
	b, err := ws.AppendBinary(nil)
	if err != nil {
		panic(err)
	}
	return b
}

func judge(c *Certifier, snapshot gtid.Set, ws Encoded) Verdict {
	return c.Certify(&Request{Snapshot: snapshot, WriteSet: ws})
}

// lost is the verdict on writes of which the one at item was written before.
func lost(item int, winner gtid.GTID) Verdict {
	return Verdict{Outcome: Conflict, Clash: Clash{Item: item, Range: -1, Winner: winner, Sequence: winner.Number}}
}

func markableItems(c *Certifier, limit int) uint64 {
	s := c.settings
	defer func() { c.settings = s }()
	c.settings.HistoryItems = limit
	return c.MarkableLimit()
}
