// Package torture runs a cluster of three real processes, each in a network namespace of its own, lets clients work with it
// through random nodes, breaks what can break (processes, disks, the network, the answers on their way), several things at a
// time, and judges the history of what the clients saw. Commands under `doubledutch run` take part, and are harmed themselves; and the
// client package has to hold what it has through restarts. There is no code here but tests. See docs/testing.md.
//
// Nothing is assumed about how fast the machine is: what is judged is what the clients were told and when. A run that saw too
// little (no election, no expiry, a fault without effect) fails as well.
package torture
