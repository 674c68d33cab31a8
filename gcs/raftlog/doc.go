// Package raftlog is the durable log of one member, on Pebble: the entries
// that raft agreed on or is about to, raft's hard state, the member's
// identity and record, and checkpoints of its state machine. It implements [gcs.Log].
//
// It owns a directory, and promises that
//
//  1. what Write was asked to sync is on disk when Write returns, and readers
//     see it only then;
//  2. after a crash the log holds a prefix of what was written, at least up to
//     the last sync;
//  3. whatever it gives back is what was put in: every record carries a
//     checksum over its key and its contents, and [Open] reads the whole log
//     once, so a flipped bit, a missing entry, terms that go backwards and a
//     commit index beyond the end are found before the member starts, not in
//     the middle of an election;
//  4. an error of the disk never ends or blocks the program: it comes back from
//     Write, now and ever after, and is told to [Options.OnFatal] once.
//
// It must never know what an entry means, what a checkpoint or the record contains, or who
// the other members are.
//
// # Keys
//
// One byte of kind, then numbers in big-endian order, so that Pebble's order
// is the order of the log.
//
//	+------+------------------+
//	| 0x01 |                  |  format version
//	| 0x02 |                  |  identity
//	| 0x03 |                  |  hard state
//	| 0x04 |                  |  cut: the last entry forgotten by Truncate or Reset
//	| 0x05 |                  |  filler, gone in the batch that writes it
//	| 0x06 |                  |  record
//	| 0x10 | index 8          |  entry
//	| 0x20 | index 8          |  head of a checkpoint
//	| 0x21 | blob 8 | chunk 4 |  a slice of a checkpoint's data
//	+------+------------------+
//
// # Values
//
// Every value begins with the CRC-32C of its key followed by the rest of the
// value. So a record that is intact but in the wrong place is found as well.
// Numbers are little-endian.
//
//	format     | crc 4 | version 4 |
//	identity   | crc 4 | group 16 | incarnation 16 | member 16 | raft id 8 | session 8 |
//	record     | crc 4 | data ... |
//	hard state | crc 4 | term 8 | vote 8 | commit 8 |
//	cut        | crc 4 | index 8 | term 8 |
//	entry      | crc 4 | term 8 | type 1 | data ... |
//	head       | crc 4 | term 8 | blob 8 | size 8 | chunk size 4 |
//	chunk      | crc 4 | data ... |
//
// An entry is written by hand instead of as protobuf: its data is copied once,
// into the batch that goes to disk, and nothing is allocated.
//
// The data of a checkpoint is cut into chunks under a blob number that was
// never used before. The chunks are written first, in batches of bounded size;
// the head, which names the blob, makes them current in one synced batch that
// also drops what it replaces. Blobs without a head are what a crash left of a
// checkpoint that was being saved; Open removes them.
//
// # Latency
//
// The cost of a Write is one fdatasync. Pebble reuses the files of its
// write-ahead log (it does so by default, and keeps up to five here), and
// syncing a file whose blocks exist is markedly cheaper than growing one. After
// Open there are none to reuse: see [Options.WarmSegments].
//
// The log is opened with big memtables, because an entry that is truncated
// before its memtable is flushed never costs more than its place in the
// write-ahead log, and without compression, because what does reach a table
// is read back seldom and its payload is opaque.
package raftlog
