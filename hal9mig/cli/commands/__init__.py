"""One module a command, named as it is typed; the groups of those are in one."""
