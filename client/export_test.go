package client

// RenewNow renews without waiting for a third of the ttl.
func (l *Lease) RenewNow() { l.keeper.wake() }

// RenewNow renews without waiting for a third of the ttl.
func (s *Session) RenewNow() { s.keeper.wake() }
