"""Attacks, one file each, on any callable from inputs to logits.

A file has `Parameters`, `NEEDS` (what the attacker sees), `THREAT` (what may change, and how far), `COST`, `ENGINES`
(who implements it, see `redoubt.engines`) and `run(network, batches, parameters, context)`, which yields one `Crafted`
per batch (and per epsilon of a sweep), always in the order of the batches. It is run on blocks of images one after the
other, so that a killed attack can go on: an attack whose example for one image depends on the others has
`joint(parameters)`, which returns True, and is run on all at once; one that crafts on all images before it moves any
keeps what it has by `_kept.kept_by(context)`.

Attacks may assume, since `redoubt.evaluation.checks` refuses everything else: float32 inputs within the bounds, at
least two finite logits, labels and target among their classes, no module in training mode. They show the model only
inputs within the bounds.

Gradients that are not finite are treated in one place for all attacks and engines, `_finite.Finite`, which evaluation
puts around the model: the gradient of such an image is taken beside the point instead, the share of these gradients is
stored with the rows (`nonfinite_gradients`), and a gradient that is not finite there either ends the attack with an
error. Logits and crafted inputs that are not finite end it too. So no attack reports a robust model because its own
arithmetic failed.
"""
