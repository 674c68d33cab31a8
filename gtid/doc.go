// Package gtid holds global transaction identifiers (GTIDs) and sets of them,
// with the meaning and the text form that MySQL gives them.
//
// A GTID names one transaction for ever: the UUID of the group or member that
// numbered it, an optional tag, and a number from 1 to [MaxNumber]. A [Set] is
// what members exchange to say what they have executed: the version of a
// snapshot, the content of a store, the difference between two members.
//
// The package promises that
//
//   - a Set is a value: copying one is cheap, no operation changes a set that
//     somebody else holds, and any number of goroutines may read it at once;
//   - a Set is always normalised, so equal sets print the same text and encode
//     to the same bytes, on every member;
//   - a set of one UUID with one interval, which is what a group produces until
//     its members number in blocks, lives inside the Set value itself: asking
//     for a subset, adding the next GTID and decoding it allocate nothing;
//   - no input makes it panic, and the memory a decoder takes is bounded by the
//     length of its input.
//
// It knows nothing of groups, members, clocks, disks or networks, and imports
// nothing else of this module. It draws no random number that was not handed in
// (see [NewUUID]), and it does not assign GTIDs: the certifier does.
//
// # Text
//
// [Parse] reads one GTID, [ParseSet] a set, in MySQL's grammar:
//
//	gtid     := UUID ':' [ tag ':' ] N
//	set      := { ',' } [ uuidset { ','+ uuidset } ] { ',' }
//	uuidset  := UUID { ':' ( tag | interval ) }
//	interval := N [ '-' M ]
//	tag      := [a-z_][a-z0-9_]{0,31}        any case, kept in lower case
//
// White space may stand around every token, and commas may be repeated. An
// interval belongs to the nearest tag before it in its uuidset, or to none; a
// tag or a UUID without intervals adds nothing, and neither does an interval
// whose end lies before its start. Numbers are decimal.
//
// Sets are printed with UUIDs in ascending order and a comma and a newline
// between them; within a UUID come the untagged intervals, then the tags in
// ascending order; intervals ascend and are merged as far as they go.
//
// # Binary form
//
// Numbers are unsigned varints as in encoding/binary, always in their shortest
// form. A group is the intervals of one UUID and tag; groups ascend by UUID,
// then tag, and a group leaves its UUID out exactly when it is that of the group
// before it.
//
//	set      +--------+---------+---------+-----
//	         | groups | group 1 | group 2 | ...
//	         +--------+---------+---------+-----
//	          varint
//
//	group    +------+---------+---------+----------+------------+-----
//	         | head | UUID    | tag len | tag text | interval 1 | ...
//	         +------+---------+---------+----------+------------+-----
//	          varint 16 bytes  1 byte    1 to 32
//	                 unless    only if tagged
//	                 repeated
//
//	head     intervals << 2 | tagged << 1 | UUID repeated
//
//	interval +------+--------+
//	         | skip | length |
//	         +------+--------+
//	          varint varint
//
//	skip     first - 1 for a group's first interval; afterwards the numbers
//	         missing since the interval before, less one (one always is)
//	length   last - first
//
// The empty set is the one byte 0. A set of one untagged interval starting at 1
// takes 20 bytes up to 128 transactions and 22 up to two million. One GTID is
//
//	gtid     +---------+---------+----------+--------+
//	         | UUID    | tag len | tag text | number |
//	         +---------+---------+----------+--------+
//	          16 bytes  1 byte    0 to 32    varint
//
// Neither form carries a version: the message or record that embeds it does.
// Decoders accept exactly what the encoders write, so a set has one encoding,
// and every strict prefix of an encoding is refused.
package gtid
