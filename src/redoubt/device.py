"""Where torch computes, and that it computes the same way each time."""

import torch

from redoubt.errors import RedoubtError


def choose(name: str, threads: int) -> torch.device:
    """Return the device called `auto`, `cpu` or `cuda`, with deterministic algorithms and `threads` CPU threads.

    Raises:
        RedoubtError: `cuda` is asked for and there is none.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    if name == "cuda" and not torch.cuda.is_available():
        raise RedoubtError("device: cuda is asked for and torch sees none; set device: auto in config/config.yaml")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
