"""Defenses, one file each: `Parameters`, `DECLARES` and a class `Defense`."""
