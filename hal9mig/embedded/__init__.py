"""A private PostgreSQL pair, Redis, workers, beat, Flower and dashboard for one machine.

``postgres`` and ``redis`` start one server each, ``supervisor`` keeps processes alive, ``stack`` says
which processes make this product and what is written down about them. Nothing here prints.
"""
