"""How many images at a time fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from redoubt.errors import RedoubtError

MOST = 256
"""Images at a time at most; attacks gain little beyond."""
KEPT = 3.0
"""Copies of what one pass keeps for its gradient that are reckoned with: gradients and an attack's own tensors."""
UNKNOWN = 2**31  # bytes that are taken to be free where the system does not say
Result = TypeVar("Result")


def free(device: torch.device) -> int:
    """Return the bytes that are free: on a GPU, or of the machine and of the limit that the process runs under."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        found += [int(limit) - int(used)] if limit != "max" else []
    except (OSError, ValueError):
        pass
    return min(found, default=UNKNOWN)


def needed(network: Callable, images: torch.Tensor) -> int:
    """Return the bytes that a pass of one image keeps for its gradient: of two images, less those of one."""
    return max(_kept(network, images[:1].repeat(2, 1, 1, 1)) - _kept(network, images[:1]), images[0].nbytes)


def _kept(network: Callable, images: torch.Tensor) -> int:
    sizes: dict[int, int] = {}

    def seen(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        network(images.clone().requires_grad_())
    return sum(sizes.values())


def fitting(network: Callable, images: torch.Tensor, room: int | None = None) -> int:
    """Return how many images at a time an attack can take: a power of two, at most `MOST`.

    Args:
        network: images (B, C, H, W) to logits.
        images: (N, C, H, W), where the network is; the first is tried.
        room: free bytes; half of those of the device when None.
    """
    room = free(images.device) // 2 if room is None else room
    most = max(1, int(room / (KEPT * needed(network, images))))
    return min(MOST, 1 << (most.bit_length() - 1))


def shrinking(run: Callable[[int], Result], size: int) -> tuple[Result, int]:
    """Return what `run(size)` gives and the size; the size is halved for as long as memory runs out.

    Raises:
        RedoubtError: memory runs out with one image at a time.
    """
    while True:
        try:
            return run(size), size
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        if size == 1:
            raise RedoubtError("memory runs out with one image at a time; take smaller images, or a larger device")
        size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def out_of_memory(error: Any) -> bool:
    """Tell whether an error says that memory has run out: torch has a type for that on GPUs alone."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in text
