"""The backward of a weighted sum of rows, for numba; imported only where numba is."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array  # of any type and shape, as the docstrings tell

from redoubt.networks._compiled import compiled


@compiled()
def to_features(indices: Array, weights: Array, gradient: Array, out: Array, first: int, last: int) -> None:
    """Add the part of a weighted sum's gradient that rows `first` to `last` of `out` (P, d) have, in one order."""
    for i in range(indices.shape[0]):
        for k in range(indices.shape[1]):
            row, weight = indices[i, k], weights[i, k]
            if first <= row < last:
                for a in range(out.shape[1]):
                    out[row, a] += weight * gradient[i, a]


@compiled("reassoc")
def to_weights(features: Array, indices: Array, gradient: Array, out: Array, first: int, last: int) -> None:
    """Put the gradient of a weighted sum's weights of the rows `first` to `last` into `out` (Q, K)."""
    for i in range(first, last):
        for k in range(indices.shape[1]):
            row, total = indices[i, k], np.float32(0)
            for a in range(features.shape[1]):
                total += features[row, a] * gradient[i, a]
            out[i, k] = total
