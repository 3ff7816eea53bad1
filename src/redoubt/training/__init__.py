"""Training: from a model's entry to weights, history and provenance."""
