"""The command line ``hal9-migrate``: the one place that prints, asks and exits."""
