"""What is asked for: typed config, its reading, and the catalog of all that exists."""
