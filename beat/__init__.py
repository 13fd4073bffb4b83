"""Only *when*: the schedule."""
