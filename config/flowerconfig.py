"""Flower's settings, for `stack up`, docker-compose.yml, and by hand: celery -A workers.app flower --conf=THIS."""

import os
import pathlib

# Flower is open to anybody by default, so there is no start without a login. It travels in the environment:
# the command line is there for everybody to read.
_login = os.environ.get("HAL9_FLOWER_AUTH", "")
if not _login and os.environ.get("HAL9_FLOWER_AUTH_FILE"):
    _login = pathlib.Path(os.environ["HAL9_FLOWER_AUTH_FILE"]).read_text(encoding="utf-8").strip()
if ":" not in _login:
    raise SystemExit("HAL9_FLOWER_AUTH, or the file HAL9_FLOWER_AUTH_FILE, has to hold user:password for Flower")
basic_auth = [_login]

# Its login goes over plain HTTP, and /metrics and /healthcheck ask for none: other hosts come through a proxy with
# TLS. A container, whose loopback nobody reaches, says --address on its command line, which wins.
address = "127.0.0.1"

# Whatever is steered is steered by commands, which the ledger knows and the audit shows: a task that Flower revokes or
# sends, a worker that it ends and a rate that it sets would be news to both.
read_only = True

# A batch's row says what it does, of which category, run, range and attempt: all of it is in name, id and arguments,
# which travel as texts of their own, since the message is msgpack. Errands send no events, and so have no rows.
tasks_columns = "name,state,args,kwargs,result,received,runtime,worker,uuid"
natural_time = False

# History is kept in memory, about 65 MB for each 10,000 tasks.
max_tasks = 10000
purge_offline_workers = 300
# What Flower would keep on disk is a pickle, which whoever can write the file turns into code that Flower runs. The
# ledger keeps every attempt of every batch for good: `hal9-migrate runs show RUN`.
persistent = False
