"""Redoubt: published claims about adversarial defenses, rebuilt from raw bytes and doubted again."""
