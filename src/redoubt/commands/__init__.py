"""The command `redoubt`, one file for each of its commands."""
