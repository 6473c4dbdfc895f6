// Package storage is everything between hashicorp/raft and the disk: the log, the stable store, the snapshots, and the
// rules for what happens when one of them fails.
//
// What a caller may rely on:
//
//   - A nil error from a write means that the data is on disk (fsync) and will be there after a crash.
//   - The first write or sync that fails, and the first that hangs, calls Options.Fatal once and makes every later write
//     fail. A file is never used again after an error on it.
//   - An entry, vote or snapshot that is read back is what was written, or an error; checksums cover all of them.
//   - Open heals what a crash can leave behind (an unfinished last batch, an unfinished snapshot, one bad copy of the
//     meta file) and refuses everything else with a *CorruptError that says which file, what is wrong and what to do.
//
// DESIGN.md describes the files and the decisions. The package knows nothing of locks, commands or HTTP.
package storage
