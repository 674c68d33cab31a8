// Package concordat embeds a member of a replicated, transactional store in a
// Go program.
//
// A group of members, each with its own disk, holds the same tables of ordered
// keys. Any member runs a transaction locally and optimistically. At commit its
// write set goes through a total-order broadcast, every member certifies it
// against the same history, and every member applies what passed, in the same
// order: the architecture of MySQL Group Replication. A commit that was
// answered is on the disks of a majority.
//
//	node, err := concordat.Open(ctx, concordat.Config{
//		Group: "5f0c6b8a-…", Dir: "/var/lib/app", Listen: "10.0.0.1:7400",
//		Seeds: []string{"10.0.0.2:7400", "10.0.0.3:7400"}, // or Bootstrap: true, once
//	})
//	defer node.Close()
//
//	accounts := concordat.Table{Schema: "bank", Name: "accounts"}
//	id, err := node.Update(ctx, func(tx *concordat.Tx) error {
//		balance, _, err := tx.Get(accounts, key)
//		…
//		return tx.Put(accounts, key, balance)
//	})
//
// # What the package owns
//
// It is the shell around the member's state machine (internal/replica): the
// goroutines, clocks, contexts and channels live here and in gcs/transport. It
// decides nothing about order, membership or conflicts. It starts no process,
// sets no global state and never ends the program: a member that cannot go on
// takes itself to ERROR and says why. Any number of nodes fit in one program.
//
// # Goroutines of a node
//
//	main ── one life after the other (a clone begins a new one)
//	  life ─┬─ state machine: takes events in runs, gives out work, waits for nothing
//	        ├─ log writer:    all writes that gathered during the last fsync, as one
//	        ├─ engine feeder: batches in order; answers come back as events
//	        └─ engine flusher: makes the engine durable beside the batches
//	transport ── streams to and from the other members
//
// Errors say what to do next; see the variables named Err….
package concordat
