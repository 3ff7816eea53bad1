"""Where torch computes, and that it computes the same way each time."""

import torch

from redoubt.errors import RedoubtError


def choose(name: str, threads: int) -> torch.device:
    """Return the device called `auto`, `cpu` or `cuda`; torch then computes the same way each time.

    CPU kernels used here are deterministic for a fixed number of threads. The switch for CUDA's is left alone on the
    CPU, since it imports torch's compiler and doubles the start-up of every job.

    Args:
        name: of the device.
        threads: CPU threads.

    Raises:
        RedoubtError: `cuda` is asked for and there is none.
    """
    torch.set_num_threads(threads)
    if name == "cuda" and not torch.cuda.is_available():
        raise RedoubtError("device: cuda is asked for and torch sees none; set device: auto in config/config.yaml")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda")
