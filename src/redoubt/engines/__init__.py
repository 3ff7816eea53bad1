"""Other implementations of attacks, one file each: its `ATTACKS` has by name a `run` like that of the attack."""
