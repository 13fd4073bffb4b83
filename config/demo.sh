#!/usr/bin/env bash
# The main job on one machine, from nothing: what `make demo` runs. Each line is a command you can type.
set -euo pipefail

BIN=${BIN:-.venv/bin}
SCALE=${SCALE:-0.05}
# Not in the checkout: under root PostgreSQL runs as another user, who may not be let in there.
HAL9_DATA_DIR=$(mktemp -d /tmp/hal9-demo.XXXXXX)
HAL9_LOG_DIR=$HAL9_DATA_DIR/log
export HAL9_DATA_DIR HAL9_LOG_DIR
chmod 711 "$HAL9_DATA_DIR"
unset HAL9_FLAT_URL HAL9_HIER_URL HAL9_REDIS_URL HAL9_CONFIG

say() { printf '\n\033[1m$ %s\033[0m\n' "$*" >&2; }
run() { say "hal9-migrate $*"; "$BIN/hal9-migrate" "$@"; }
finish() {
  "$BIN/hal9-migrate" stack down >&2 || true
  rm -rf "$HAL9_DATA_DIR"
}
trap finish EXIT

run stack up --detach --workers 2 --flower-port "${FLOWER_PORT:-5555}"
run sample-data load --scale "$SCALE" --seed 42
run state migrate --category all
run state verify --all-categories --deep --checksums
run state stats --resources
