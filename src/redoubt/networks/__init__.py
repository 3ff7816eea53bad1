"""Networks, one file each: `Parameters` and `build(parameters, shape, classes)`."""

SHARED = frozenset({"layers", "vision"})
