"""What `make` and a user run by hand; steps are what rules run."""
