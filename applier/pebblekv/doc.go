// Package pebblekv is the default engine of a member: tables of ordered keys on
// Pebble. It owns the directory it is given and every file in it.
//
// It promises what [applier.Engine] asks for, and these:
//
//   - An import or a crash, at any moment, leaves one whole state to open.
//   - An error of the disk never ends the process. The engine fails once, for
//     good: every later change returns an error that wraps [ErrFailed], reads
//     go on, and nothing more is written.
//   - A second Open of a directory in use is refused with [ErrInUse].
//
// It must never know what a transaction means, who ordered it, or that other
// members exist.
//
// # Directory
//
//	LOCK             held by the process that has the engine open
//	CURRENT          the name of the state in force and a newline; replaced by
//	                 renaming CURRENT.tmp over it
//	state-NNNNNN/    a Pebble store
//	export-NNNNNN/   a Pebble checkpoint on its way to another member
//	prepared-NNNNNN/ Pebble tables of a transaction that is being got ready
//
// Whatever CURRENT does not name is the remainder of a creation, an import, an
// export or a preparation that did not finish, and is removed by Open. CURRENT is written only
// after the store it names is complete and durable, so Open never has to finish
// anything: an interrupted import has either happened or not.
//
// # Keys
//
//	00 "format"                  format version, 4 bytes, big-endian
//	00 "position"                position record
//	01 schema 00 name 00 key     value
//	02 01 index(8)               milestone of the changes
//	02 02 index(8) number(4)     change record of a transaction
//	02 03 giant(8) number(4)     piece of a payload
//
// Schema and name contain no NUL, so a table's prefix is the prefix of no other
// table's keys, whatever bytes the keys hold, and the keys of one table are
// adjacent and in order.
//
// The position record is overwritten in the same Pebble batch as the data that
// it speaks of:
//
//	record := crc32c(4, of what follows) digest(16) position
//
// with digest as in [applier.Digester] and position as in
// [applier.Position.AppendBinary].
//
// # Changes
//
// Change records, in the form of [applier.AppendChange], are written in the Pebble
// batch of the data that they speak of, and so are the milestones between them,
// which hold what was executed there and how many bytes of records came before.
// What is before the oldest milestone is forgotten, in the batch that goes beyond
// the retention. So a crash leaves no gap, and the oldest milestone says what is
// missing. They are no part of the digest.
//
//	milestone := bytes(8) at(8) giants(8) set
//	record    := 0 change | 1 giant(8) count(4) bytes(8) change
//
// The second form is of a transaction that was got ready before it was known where in
// the log it would stand: its payload is in pieces, by the number of such records
// before it, and the change has none.
//
// # Getting ready
//
// What a large transaction writes goes to Pebble tables as it comes in, with what it
// adds to the digest beside. Its turn writes two small ones, of the position and of
// the change record, and has Pebble take all of them in at once. They become visible
// and durable together, behind everything that came before, of which a crash can take
// away nothing any more once they are there.
//
// # Export stream
//
// A sequence of chunks. The checksum of each covers also where in the stream it
// begins and the salt, drawn for each export, so that a chunk lost, repeated,
// out of place or from another export is noticed as surely as a flipped bit.
// Nothing depends on the contents of what lies before, and all data chunks of a
// file but the last are of the same length: the stream can be written from any
// byte on.
//
//	stream := magic(8) salt(8) record-chunk (file-chunk data-chunk*)* end-chunk
//	chunk  := kind(1) length(4) payload(length) sum(4)
//
//	magic  := "CCDTKV" version(2)
//	sum    := crc32c(magic salt offset-of-chunk(8) kind length payload)
//	'P'    record: the position record of the exported state
//	'F'    file: the name of the file whose contents follow
//	'D'    data: the next 1 MiB of that file, or what is left of it
//	'E'    end: number of files(8) bytes of data(8)
//
// All integers are big-endian.
package pebblekv
