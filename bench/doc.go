// Package bench measures what a commit costs on this machine, with real files,
// real fsync and real sockets.
//
// It has two shapes. In process, three members live in the measuring program
// and talk over loopback TCP: comparable with embedded libraries. With
// processes, three members run as programs of their own and are driven through
// gRPC from this one: comparable with servers. Either way all members and the
// load share the machine, so commits per second say what a commit costs in CPU
// and fsyncs over the whole group, not what three machines would do.
//
// The load is a closed loop: each client has one transaction under way, a
// single-row update of a key of its own, chosen at random among the preloaded
// ones. Latency counts from the call to the answer. What is measured begins
// after a warm-up. A row names the background load around it, so that a noisy
// one can be told from a slow one.
//
// It also measures what single things cost: the consistency levels, the state
// check, the change stream, a member with a slow store, a giant transaction. With
// processes it measures what failures cost: how long nobody commits when one is
// killed or cut off, and how long one takes to come back. Each has its options, of
// which all have a [Site], its report, and a table of that for documents.
//
// The package promises to touch nothing but the directory it is given, and to
// leave no process and no file behind. It knows nothing of how members work.
package bench
