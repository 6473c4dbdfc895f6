#!/bin/sh
# A nightly job on five machines whose clocks are wrong, so that their cron starts this at different moments. The cluster's
# calendar says which night it is; the first machine that asks does the job, and the others hear that it is done or running.
# With --at-least, a machine that asks just after the next night began does not do it twice in a row.
set -u
task=${1:-nightly-report}

machine() { # name, seconds by which its clock is late
    sleep "$2"
    key=$(doubledutch task claim --cron "30 2 * * *" --zone Europe/Zurich --at-least 1h --ttl 10m --owner "$1" "$task" 2>/dev/null)
    case $? in
    0)
        echo "$1 runs the job"
        echo "$key" | doubledutch task complete "$task" - --result "by $1" >/dev/null
        ;;
    3 | 6) echo "$1 has nothing to do" ;;
    *) echo "$1 could not ask" >&2; exit 1 ;;
    esac
}

for m in "machine-1 0.4" "machine-2 0.1" "machine-3 0" "machine-4 0.2" "machine-5 0"; do
    # shellcheck disable=SC2086 # name and delay are two words
    machine $m &
done
wait
