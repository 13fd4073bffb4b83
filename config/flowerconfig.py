"""Flower's settings, for `stack up` and docker-compose.yml; the address and the port come from the command line."""

import os

# Flower is open to anybody by default, so there is no start without a login. It travels in the environment:
# the command line is there for everybody to read.
if ":" not in os.environ.get("HAL9_FLOWER_AUTH", ""):
    raise SystemExit("HAL9_FLOWER_AUTH has to hold user:password for Flower")
basic_auth = [os.environ["HAL9_FLOWER_AUTH"]]

# Which batch of which category, at which attempt, is in a task's arguments: show them.
tasks_columns = "name,uuid,state,args,kwargs,received,started,runtime,worker"
natural_time = False

# History is kept in memory, about 65 MB for each 10,000 tasks; the ledger is the history that counts.
max_tasks = 10000
purge_offline_workers = 300
# A pickle on disk, and nothing in it that the ledger would not know better.
persistent = False
