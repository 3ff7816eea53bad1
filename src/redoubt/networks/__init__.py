"""Networks, one file each: `Parameters` and `build(parameters, shape, classes)`."""

SHARED = frozenset({"layers", "nearest", "peers", "reformed", "residual", "vision"})
