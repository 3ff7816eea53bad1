"""Measurements of a model, while it is trained or when it is finished, one file each."""
