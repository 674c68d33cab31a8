// Package transport carries messages between the members of a group over gRPC.
//
// It owns the sockets: one server for those who dial this member, and for each
// peer one connection with one ordered stream that this member dialed. A
// stream carries messages in one direction only, from its dialer, so two
// members that talk hold two streams. What the messages mean is not known
// here; nor is the view, beyond the addresses that [Transport.SetPeers] hands
// in.
//
// # Promises
//
//   - Send never blocks. Each peer has a queue with a bound on bytes and on
//     messages; what does not fit is refused, and the caller told so.
//   - Messages to one peer arrive in the order of Send and at most once. A gap
//     is possible only where a stream broke: what was queued or on the way is
//     lost then, and nothing stale is sent on the next stream. The receiver
//     has seen the end of one stream of a peer before it sees the beginning of
//     the next one.
//   - A handler that does not take messages holds back the peers that send
//     them, each by itself, and never loses one.
//   - A message reaches the handler only from a member of the same group, the
//     same incarnation and the same protocol version, that looked for this
//     raft id. Anybody else is refused with a [RefusedError] that both sides
//     log and that the dialer's handler gets. A UUID, too, is one member's:
//     two streams at a time never go by the same one.
//   - A member may become another one, see [Transport.SetIdentity]: nothing that
//     was said to the earlier one reaches it.
//   - Nobody outside Config.Allow is listened to, or told anything.
//   - Nothing that comes from the network makes it panic or take memory beyond
//     the limits of [Config].
//
// # A stream
//
//	dialer                                     the member that is dialed
//	   | -- ConnectRequest{Hello} ------------------> |  is this one of us?
//	   | <------------------ ConnectResponse{Welcome} |  or a status with a Refusal
//	   | -- ConnectRequest{messages} ---------------> |
//	   | -- ConnectRequest{messages} ---------------> |
//
// A peer is known while it is in the set of SetPeers or while a stream from it
// is open. The second half lets a joiner answer the leader before it has seen
// a view, and lets members tell one that was expelled so.
//
// # What it costs
//
// The sender goroutine of a peer takes everything that is queued at once and
// encodes it straight into the buffer that goes out, up to
// Config.BatchBytes per gRPC message, so a wake-up, a frame and a system call
// are shared by whatever waits. The receiving goroutine decodes a batch out of
// gRPC's buffers and calls the handler itself: no hop per message on either
// side. See codec.go for what that replaces.
package transport
