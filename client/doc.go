// Package client is the Go client of DoubleDutch, a lock service. It depends on the standard library alone.
//
//	c, err := client.New([]string{"http://10.0.0.1:7333", "http://10.0.0.2:7333", "http://10.0.0.3:7333"})
//	...
//	defer c.Close()
//	lease, err := c.Lock(ctx, "database", client.TTL(30*time.Second))
//	...
//	defer lease.Unlock(ctx)
//	work(lease.Context(), lease.Token())
//
// Beside [Client.Lock] there are [Client.TryLock], [Client.LockAll] for many locks at once, [Client.Do], which unlocks by itself, [Client.Open]
// for sessions, [Client.Once] for what must be done once on many machines, [Client.Campaign] for elections, [Client.Watch] for events, and
// [Client.Get] and [Client.List] to look.
//
// # What you can rely on
//
// A lease is renewed in the background, at a third of its ttl, over whatever endpoint answers. As long as [Lease.Err] is nil and
// [Lease.Context] has not ended, the lock is yours: nobody else is granted it. The context ends before the server can end the hold:
//
//	deadline = when the last acknowledged request was sent + the lifetime that it brought − 1 % − margin
//
// by the monotonic clock; changes of the time of day do not matter. When a server tells that the hold is gone, because an operator
// broke it, the context ends at once. A lease that was lost never comes back.
//
// Each acquire has a key, made by the client from a cryptographic source. A request whose answer was lost is sent again with the same key,
// to another endpoint if need be, and has the effect of one: the same grant with the same token, or the same place in the queue.
//
// An endpoint that does not answer in time is left, and avoided for a while, whether it refuses connections or accepts them and falls
// silent. Errors of the network do not show, as long as some endpoint answers within [WithPatience].
//
// A wait survives lost connections, restarts of servers and elections with its place, as long as some server is reached every
// few seconds.
//
// When an operation fails, its error is exactly as certain as it says: [ErrHeld] and [ErrUnavailable] mean that nothing was acquired,
// [ErrUnknown] that it may have been. What an abandoned acquire may have left is given back in the background for up to five seconds;
// if that fails, too, the lock is held by nobody until its ttl has passed.
//
// No goroutine is left when the leases are unlocked, the sessions ended, and the client closed.
//
// # What you cannot
//
// A context that has ended does not stop anything by itself. What you do under a lease must heed the context, and take less time to
// stop than the margin ([WithMargin]). A program that is paused (a garbage collector, a debugger, a stopped or migrated virtual
// machine) between a look at the lease and the write that it protects, writes too late, whatever the client does. Where that must
// not be, give [Lease.Token] along, and have the resource refuse tokens lower than the highest it has seen.
//
// The clocks of client and server may differ in their rate by 1 %. On Linux, time that the machine was suspended counts, and the
// context of a lease that ran out meanwhile ends within a second after it; [Lease.Err], [Lease.Remaining] and [Lease.Deadline] know it at
// once. On other systems a suspend is not noticed.
//
// A ttl is how long others wait when this program dies. Much less than three seconds leave a failover no time to be survived: a lease
// is then lost in it, safely.
//
// # Contexts
//
// The context that is given to Lock bounds the acquiring. It does not bound the lease: [Lease.Context] has its values, and not its end. The
// context that is given to Unlock bounds how long you wait to hear that it is done; it is done also if the context has ended.
package client
