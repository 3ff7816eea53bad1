"""What numbers mean: estimates, cells beside printed numbers, claims."""
