// Package peer is the channel between the nodes of a cluster: one TCP listener per node, for the RPCs of
// hashicorp/raft and for calls (a request, an answer) of our own. It carries bytes and does not know what they mean.
//
// # What it guarantees
//
// A connection carries nothing before both ends have shown who they are. With TLS both present a certificate of the
// cluster's CA that names the role of a node (see [RolePrefix]); both must belong to the same cluster, and Config.Admit
// of both must agree. A node that knows no cluster yet may only make and get calls, of kind [Join].
//
// A call ends in exactly one of these ways, and the difference matters to whoever retries: an answer; a [RemoteError];
// [ErrRefused] or [ErrUnreachable], where the request certainly did not arrive; [ErrBroken], where nobody knows.
//
// Nothing grows without bound: see limits.go. A node that is too busy stops reading, and its callers wait.
//
// # What it does not
//
// A certificate is judged when a connection begins; one that expires later ends no connection. Nor does a change of the
// membership, unless [Peer.Recheck] is called. Calls are not ordered among each other, and never repeated.
package peer
