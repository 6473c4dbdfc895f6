#!/bin/sh
# A schema migration by three replicas that start together: one does it, the others wait for the result. If the one that
# does it dies, its claim ends by itself and the next replica does it.
set -u
task=${1:-migrate-42}

replica() {
    key=$(doubledutch task claim --wait 1m --ttl 30s --max-attempts 3 --owner "$1" "$task" 2>/dev/null)
    case $? in
    0)
        echo "$1 migrates"
        sleep 0.3 # the migration; one that takes long renews: doubledutch task renew "$task" - --progress "3 of 7 tables"
        echo "$key" | doubledutch task complete "$task" - --result "schema is at version 42" >/dev/null || exit
        ;;
    6) ;; # it is done
    *) echo "$1 cannot start: the migration failed" >&2; exit 1 ;;
    esac
    echo "$1 starts, $(doubledutch task show --result "$task")"
}

replica replica-1 & one=$!
replica replica-2 & two=$!
replica replica-3 & three=$!
wait $one && wait $two && wait $three
