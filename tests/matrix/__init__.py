"""The acceptance tests on other versions of Python, PostgreSQL and Redis than those that are delivered."""
