"""Metrics over the rows of an attack, one file each.

A file has `KIND` ("rate" or "mean", which decides the interval), `UNIT` ("percent", "scientific" or "plain": how it is
printed) and `values(rows)`: one number per attacked image, whose mean is the metric.
"""

SHARED = frozenset({"estimate"})
