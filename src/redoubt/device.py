"""Where torch computes, that it computes the same way each time, and how its draws are seeded."""

import hashlib
from typing import Any

import torch

from redoubt.errors import RedoubtError


def choose(name: str, threads: int) -> torch.device:
    """Return the device called `auto`, `cpu` or `cuda`; torch then computes the same way each time.

    CPU kernels used here are deterministic for a fixed number of threads. The switch for CUDA's is left alone on the
    CPU, since it imports torch's compiler and doubles the start-up of every job. On a GPU that has TF32, convolutions
    run in it and matrix products do not: torch's defaults, which nothing here changes.

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
    # To fill every new tensor is one more kernel each. (torch sets this attribute where its types do not see it.)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # see above
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda")


def sent(tensor: torch.Tensor, where: torch.device) -> torch.Tensor:
    """Return a tensor of the CPU on a device. A GPU is not waited for: it takes the tensor when it gets there."""
    if where.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(where, non_blocking=True)


def seed_everything(*names: Any) -> torch.Generator:
    """Seed torch's global generator by names; return a CPU generator with the same seed.

    Names say whose draws these are and what they are for: (model's id, seed, "weights"), for instance. The hash of an
    entry or of code is never among them, so that a key with its default or an edited comment moves no number.
    """
    digest = hashlib.sha256(repr(names).encode()).digest()
    seed = int.from_bytes(digest[:8], "little") >> 1
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)
