// Package client is a program's way to a group over the network. It knows who writes
// and who serves, because members push that, and sends each call where it belongs.
//
//	c, err := client.Open(ctx, client.Config{Addresses: []string{"10.0.0.1:7500", "10.0.0.2:7500"}})
//	defer c.Close()
//	_, err = c.Put(ctx, []byte("alice"), []byte("100"))
//	value, found, err := c.Get(ctx, []byte("alice"), client.From(client.Nearest()), client.AtMost(time.Second))
//	_, err = c.Run(ctx, func(tx *client.Tx) error { … }) // again while that is safe
//
// # What it promises
//
// A call that writes ends in one of three ways: it has committed, and once; nothing
// has happened, and the error says why; or nobody could tell, which is an
// *OutcomeUnknownError with the id by which [Client.Outcome] may know later. Nothing
// is guessed.
//
// A write is sent to a member for one epoch, the time from one change of who writes
// to the next, and the group commits it by a right to write of that epoch or not at
// all. When a later epoch becomes known, no call is made in the earlier one any
// more, and those that a member has which then writes no longer are cut off after
// 100 ms.
//
// # When the answer is lost
//
// Each transaction has an id, and commits once under it however often it is sent.
// So one that does not depend on what it finds, as Put, Delete, Add and a Txn of
// these, is asked for by its id and sent again. One that has read something is not:
// it might find what it has itself written. It is asked for, on members that answer,
// until its fate is known. If the primary that had it is replaced, it is known soon:
// what the old one was asked for in its epoch cannot commit behind the beginning of
// the next one; so if the log up to there does not have it, it never happened, and
// [Client.Run] runs it again. Where the primary stays and only the connection broke,
// a request may have been lost on its way and nobody can prove it; then the outcome
// is unknown when the time of the call is over.
//
// # What it waits for
//
// Every call that waits takes a context; without a deadline it has that of
// Config.Timeout. While there is no primary a write waits for one. A member of which
// nothing is heard for 3 s is taken for gone, and what it was asked is asked of
// another one; a primary that has stopped is left earlier, as soon as the others
// have elected the next one and say so.
//
// The package knows nothing of how members agree, and does not link the library:
// what members say is all it has.
package client
