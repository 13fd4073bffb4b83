"""Speed against peers, as ratios inside one run; ``python -m tests.benchmarks``."""
