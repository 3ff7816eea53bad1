"""Attacks, one file each, on any callable from inputs to logits.

A file has `Parameters`, `NEEDS` (what the attacker sees), `THREAT` (what may change, and how far), `COST`, `ENGINES`
and `run(network, batches, parameters, context)`, which yields one `Crafted` per batch (and per epsilon of a sweep),
always in the order of the batches.
"""
