"""Sample data: a deterministic HAL9 state of any scale, for trials, tests and benchmarks.

The same scale and seed give the same rows, on any machine and with any number of processes: rows are
made in chunks of a fixed size, each with a generator seeded by its own number.
"""

from hal9mig.sample.loading import Loaded, LoadProgress, load, occupied
from hal9mig.sample.shape import Shape

__all__ = ["LoadProgress", "Loaded", "Shape", "load", "occupied"]
