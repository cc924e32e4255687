#!/bin/sh
# The desk in curl lines. CONSOLE_TOKEN=... sh examples/desk.sh [http://127.0.0.1:5000]
# The token goes to curl over standard input, so that the process list does not show it.
set -eu
URL="${1:-http://127.0.0.1:5000}/api"
HERE="$(dirname "$0")"
ask() { printf 'header = "Authorization: Bearer %s"\n' "$CONSOLE_TOKEN" | curl -sS -K - -H 'Content-Type: application/json' "$@"; echo; }
field() { sed -n "s/^{\"$1\":\"\([^\"]*\)\".*/\1/p"; }

ask "$URL/health"
ask "$URL/strategies"
ID="$(ask -X POST -d "@$HERE/worker-auto-size.json" "$URL/workers" | field id)"
ask -X POST "$URL/workers/$ID/start"
sleep 5
ask "$URL/workers/$ID/orders"
ask -X PATCH -d '{"params": {"spread": 0.08}, "reason": "wider"}' "$URL/workers/$ID"
ask -X POST "$URL/workers/$ID/pause"
ask -X POST "$URL/workers/$ID/stop"
ask "$URL/fills?worker=$ID&limit=5"
ask -X DELETE "$URL/workers/$ID"
# the red button, and its release:
#   ask -X POST -d '{"reason": "drill"}' "$URL/kill"
#   ask -X POST -d '{"confirm": "RELEASE"}' "$URL/kill/release"
