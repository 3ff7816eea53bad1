"""Probes, one file each: `Parameters`, and `measure` for a training or `run` for a finished model."""
