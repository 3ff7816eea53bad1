"""Metrics over the rows of an attack, one file each.

A file has `KIND` ("rate" or "mean", which decides the interval), `UNIT` ("percent", "scientific" or "plain": how it is
printed) and `values(rows)`: one number per attacked image, whose mean is the metric. Where the metric does not apply to
every image it also has `applies(rows)`, one boolean per image, and `EMPTY`, the reason why it may apply to none; where
it is another summary of the values than their mean, `summary(values)`.
"""
