#!/usr/bin/env bash
# Three in the morning: the nightly job hangs and holds its lock, and others wait for it. Somebody finds out who holds it
# and why, asks, breaks, and sees what happened.
#
# It needs a server (DOUBLEDUTCH_SERVER, default http://127.0.0.1:7333) and the program (BIN, default doubledutch), and uses
# a lock of its own (LOCK).
set -euo pipefail

BIN=${BIN:-doubledutch}
LOCK=${LOCK:-nightly-$$}
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

say() { printf '\n# %s\n' "$*"; }
run() { printf '$ doubledutch %s\n' "$*"; "$BIN" "$@"; }

# queue OWNER lets somebody wait for the lock in the background, and returns when he stands in the queue.
queue() {
  local before
  before=$(queued)
  "$BIN" acquire "$LOCK" --owner "$1" --ttl 10m --wait 5m >"$work/$1" 2>"$work/$1.log" &
  until [ "$(queued)" -gt "$before" ]; do sleep 0.05; done
}
queued() { "$BIN" show --json "$LOCK" | grep -o '"queue_length": [0-9]*' | grep -o '[0-9]*$'; }

# granted OWNER waits until he has the lock, for a minute at most.
granted() {
  local i
  for i in $(seq 600); do
    [ -s "$work/$1" ] && return
    sleep 0.1
  done
  echo "$1 did not get the lock" >&2
  return 1
}

say "In the evening, worker-3 takes the lock and begins. Then it hangs."
"$BIN" acquire "$LOCK" --owner worker-3 --metadata "nightly run" --ttl 8h >"$work/worker-3"
queue worker-7
queue worker-8

say "At three: who holds it, since when, and who waits?"
run show "$LOCK"

say "Ask first. A holder that is well hears of it when it renews."
run ask "$LOCK" --owner ops --reason "the backup has to begin" --within 30s
run renew "$LOCK" "$(cat "$work/worker-3")" | sed "s/$(cat "$work/worker-3")/KEY/"
then=$(date -u +%FT%T.%NZ)

say "Nothing happens, its machine does not answer and has been switched off: break the hold."
run break "$LOCK" --owner ops --reason "worker-3 hangs, its machine is off" --yes
granted worker-7
echo "worker-7 has the lock."

say "Should worker-3 come back, it is told why."
"$BIN" renew "$LOCK" - <"$work/worker-3" 2>&1 || echo "(exit code $?)"

say "worker-7 has done its part. worker-9 is to go on, and not worker-8, who came first."
queue worker-9
run handover "$LOCK" --to worker-9 --key-file "$work/worker-7"
granted worker-9

say "In the morning: who had it in the night, and how did that end?"
run history "$LOCK"

say "And who had it when the backup should have begun?"
run history "$LOCK" --at "$then"

"$BIN" release "$LOCK" - <"$work/worker-9" >/dev/null
granted worker-8
"$BIN" release "$LOCK" - <"$work/worker-8" >/dev/null
