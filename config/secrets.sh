#!/bin/sh
# Makes the files that docker-compose.yml hands to its containers: a password for each server, and the addresses with
# them. What is there already is left alone.
set -eu
cd "$(dirname "$0")/.."
mkdir -p secrets
chmod 700 secrets
# Containers read them as the user 10001; who may enter the folder is the host's matter.
umask 022

made() {
  if [ ! -s "secrets/$1" ]; then
    printf '%s\n' "$2" > "secrets/$1"
    echo "made secrets/$1"
  fi
}

random() {
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

made db_password "$(random)"
made redis_password "$(random)"
made dashboard_token "$(random)"
made flower_auth "hal9:$(random)"
made flat_url "postgresql://hal9:$(cat secrets/db_password)@flat:5432/hal9_flat"
made hier_url "postgresql://hal9:$(cat secrets/db_password)@hier:5432/hal9_hier"
made redis_url "redis://:$(cat secrets/redis_password)@redis:6379/0"
