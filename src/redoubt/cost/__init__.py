"""What a run costs: measured speeds."""
