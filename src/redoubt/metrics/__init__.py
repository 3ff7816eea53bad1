"""Metrics over the rows of an attack, one file each.

A file has `Parameters`, a `redoubt.metrics.interface.Metric`: its fields are the parameters, and its methods compute
the metric from rows.
"""
