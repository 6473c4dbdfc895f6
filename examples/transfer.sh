#!/bin/sh
# Two transfers between the same two accounts, in opposite directions. Each locks the account that it takes from, and then
# the other one: that would deadlock. With sessions, the one that would close the circle is refused at once. With both locks
# acquired as a set there is nothing to refuse: one waits for the other.
set -eu
server=${DOUBLEDUTCH_SERVER:-http://127.0.0.1:7333}

session() { # owner
    curl -sf "$server/v1/sessions" -H 'Content-Type: application/json' -d "{\"owner\":\"$1\",\"ttl\":60}" | sed 's/.*"id":"\([^"]*\)".*/\1/'
}
lock() { # session, owner, account
    doubledutch acquire --session "$1" --owner "$2" --wait 30s "$3" >/dev/null
}

echo "one lock after the other:"
ab=$(session alice-to-bob)
ba=$(session bob-to-alice)
lock "$ab" alice-to-bob accounts/alice 2>/dev/null
lock "$ba" bob-to-alice accounts/bob 2>/dev/null
lock "$ab" alice-to-bob accounts/bob 2>/dev/null &
waits=$!
until doubledutch show --json accounts/bob | grep -q '"queue_length": 1'; do sleep 0.05; done
if lock "$ba" bob-to-alice accounts/alice 2>&1; then
    echo "this should have been refused" >&2
    exit 1
fi
curl -sf -X DELETE "$server/v1/sessions/$ba" >/dev/null # it gives up what it has, and begins again later
wait $waits
echo "alice-to-bob has both accounts"
curl -sf -X DELETE "$server/v1/sessions/$ab" >/dev/null

echo "both locks at once:"
transfer() { # owner, accounts
    key=$(doubledutch acquire --owner "$1" --wait 30s "$2" 2>/dev/null)
    sleep 0.1 # the transfer
    echo "$1 is done"
    doubledutch release accounts/alice "$key" >/dev/null # and the other one with it
}
transfer alice-to-bob accounts/alice,accounts/bob & one=$!
transfer bob-to-alice accounts/bob,accounts/alice & two=$!
wait $one
wait $two
