"""Preprocessing, the first layer of every model, one file each.

A file has `Parameters`, `build(parameters, shape)` and `fit(parameters, layer, batches)`, where `batches()` walks over
the training images as float32 (N, C, H, W) in [0, 1]. What is learnt is kept in buffers and travels with the weights.
"""
