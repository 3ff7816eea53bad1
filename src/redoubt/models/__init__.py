"""Models: preprocessing and network behind one callable, and their files."""
