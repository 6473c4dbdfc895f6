package storage

import "time"

// verify checks everything in the directory against each other, heals what a crash explains and refuses the rest.
func (s *Store) verify(meta *metaFile) error {
	start := time.Now()
	mark, clean, err := readMarker(s.dir.marker())
	if err != nil {
		return err
	}
	log := &logCheck{dir: s.dir.log(), meta: meta, clean: clean, logger: s.o.Logger, g: s.g}
	if err := log.run(); err != nil {
		return err
	}
	snaps, err := openSnapshots(s.dir.snapshots(), s.o.Logger, s.g)
	if err != nil {
		return err
	}
	snapshot, seen, err := snaps.verify(log.first, log.last)
	if err != nil {
		return err
	}
	if clean && (log.last != mark.last || seen != mark.snapshot) {
		return corrupt(string(s.dir), "at the last shutdown the log ended with entry %d and the newest snapshot with entry %d, "+
			"now they end with %d and %d", mark.last, mark.snapshot, log.last, seen)
	}
	if err := s.join(log, snapshot); err != nil {
		return err
	}
	s.snaps = snaps
	s.o.Logger.Info("data directory verified", "dir", string(s.dir), "clean", clean, "first_index", log.first,
		"last_index", log.last, "snapshot_index", snapshot, "took", time.Since(start).Round(time.Microsecond))
	return nil
}

// join checks that snapshot and log leave no gap between them.
func (s *Store) join(log *logCheck, snapshot uint64) error {
	switch {
	case log.last == 0:
		return nil
	case log.first > snapshot+1:
		return corrupt(string(s.dir), "the log begins with entry %d, but the newest snapshot ends with entry %d", log.first, snapshot)
	case log.last < snapshot && log.torn > 0:
		return corrupt(string(s.dir), "the log ends with entry %d, before the newest snapshot's entry %d", log.last, snapshot)
	case log.last < snapshot:
		s.stale = true
	}
	return nil
}

// dropStale empties a log that ends before the newest snapshot. That is what a crash leaves between the arrival of a
// snapshot from the leader and the removal of the log that it replaces; raft would go on behind the snapshot, and the
// log takes no gap.
func (s *Store) dropStale() error {
	if !s.stale {
		return nil
	}
	first, err := s.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return err
	}
	s.o.Logger.Warn("emptied the log, which ends before the newest snapshot", "first_index", first, "last_index", last)
	if err := s.log.in.DeleteRange(first, last); err != nil { // step by step, so that only a single one may take too long
		return s.g.fail("empty the log", err)
	}
	return s.g.err()
}
