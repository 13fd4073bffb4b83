#!/usr/bin/env bash
# The main job on one machine, from nothing: what `make demo` runs. Each line is a command you can type.
set -euo pipefail

BIN=${BIN:-.venv/bin}
SCALE=${SCALE:-0.02}
# Not in the checkout: under root PostgreSQL runs as another user, who may not be let in there.
HAL9_DATA_DIR=$(mktemp -d /tmp/hal9-demo.XXXXXX)
HAL9_LOG_DIR=$HAL9_DATA_DIR/log
export HAL9_DATA_DIR HAL9_LOG_DIR
chmod 711 "$HAL9_DATA_DIR"
unset HAL9_FLAT_URL HAL9_HIER_URL HAL9_REDIS_URL HAL9_CONFIG
WRITES=$HAL9_DATA_DIR/writes.jsonl
REPORT=$PWD/state-migration-report.pdf
TRAFFIC=

title() { printf '\n== %s\n' "$*" >&2; }
run() { printf '\n$ hal9-migrate %s\n' "$*" >&2; "$BIN/hal9-migrate" "$@"; }
finish() {
  [ -z "$TRAFFIC" ] || kill "$TRAFFIC" 2>/dev/null || true
  title "stopping, and removing $HAL9_DATA_DIR"
  "$BIN/hal9-migrate" stack down >/dev/null 2>&1 || true
  rm -rf "$HAL9_DATA_DIR"
}
trap finish EXIT

title "real servers, and a flat store of the real shape"
run stack up --detach --workers 2 --flower-port "${FLOWER_PORT:-5555}" --dashboard-port "${DASHBOARD_PORT:-5556}"
run sample-data load --scale "$SCALE" --seed 42

title "an application begins to write, and goes on until the end"
printf '\n$ hal9-migrate sample-data traffic --writers 2 --rate 40/s --duration 1h --file %s &\n' "$WRITES" >&2
"$BIN/hal9-migrate" sample-data traffic --writers 2 --rate 40/s --duration 1h --file "$WRITES" \
  >"$HAL9_DATA_DIR/traffic.txt" 2>&1 &
TRAFFIC=$!

title "a backup of both stores at one instant, proven"
run state checkpoint --name before --full-backup --verify
run state list-checkpoints

title "capture its writes, migrate under them, and compare"
run mode migration --enable --attest
run state migrate --category all
run state verify --all-categories --deep --checksums
run reconcile --full --fix-mode auto --report "$HAL9_DATA_DIR/reconcile.json"

title "switch over, let it write there, and go back"
run mode migration --disable-dual-write
run state status
sleep 5
run mode flat-only
sleep 3

title "was anything lost?"
kill -INT "$TRAFFIC"
wait "$TRAFFIC" || true
TRAFFIC=
grep -v '^next:' "$HAL9_DATA_DIR/traffic.txt"
run sample-data check-traffic "$WRITES"

title "back to the backup, if it had to be: what would be lost, and the swap"
run state rollback --category neuron-states --to-checkpoint before --preserve-others --yes
run state verify --category neuron-states
run state stats --resources

title "the whole story, as a document"
run report --phase state-migration --detailed --output "$REPORT"
printf '\nThe report is %s\n' "$REPORT" >&2
