"""One module per workflow step; each can be run by hand with `python -m redoubt.steps.<step> --help`."""
