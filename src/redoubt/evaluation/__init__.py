"""Attacks on trained models: from weights and an entry to one row per image."""
