"""What every attack takes for granted of images, labels, a model and a target, checked once before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from redoubt.attacks.interface import module_of
from redoubt.errors import RedoubtError


def check_images(images: torch.Tensor, labels: torch.Tensor) -> None:
    """Refuse images that are not float32 (N, C, H, W) in [0, 1], or labels that are not int64 (N,), N at least 1.

    Raises:
        RedoubtError: naming what was expected and what was found.
    """
    for name, values in (("images", images), ("labels", labels)):
        if not isinstance(values, torch.Tensor):
            raise RedoubtError(f"{name}: expected a torch tensor, got {type(values).__name__}; see torch.from_numpy")
    if images.dtype != torch.float32 or images.dim() != 4:
        raise RedoubtError(f"images: expected float32 (N, C, H, W), got {images.dtype} {tuple(images.shape)}")
    if not images.numel():
        raise RedoubtError(f"images: there are none, the shape is {tuple(images.shape)}")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise RedoubtError(f"labels: expected int64 ({len(images)},), got {labels.dtype} {tuple(labels.shape)}")
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):
        raise RedoubtError(f"images: expected values in [0, 1], got {low.item():g} to {high.item():g}")


def check_mode(attack: str, network: Callable) -> None:
    """Refuse inference mode, and a module of which any part is in training mode or was made in inference mode.

    Raises:
        RedoubtError: naming the module.
    """
    if torch.is_inference_mode_enabled():
        raise RedoubtError(f"{attack}: torch.inference_mode() is on, which has no gradients; leave it first")
    if (model := module_of(network)) is None:
        return
    for name, module in model.named_modules():
        if module.training:
            which = f"its module {name}" if name else "the model"
            raise RedoubtError(f"{attack}: {which} is in training mode; call the model's eval() first")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_inference():
            raise RedoubtError(f"{attack}: the model's {name} was made in torch.inference_mode(); make it outside")


def check_model(attack: str, network: Callable, inputs: torch.Tensor, labels: torch.Tensor, parameters: Any) -> None:
    """Refuse a model without at least two finite logits, and labels or a target that it has no logit for.

    Args:
        attack: its name, for the message.
        network: inputs (B, ...) to logits (B, classes), in eval mode.
        inputs: (N, ...) attacked inputs; the model is shown the first two.
        labels: (N,) true classes.
        parameters: of the attack; `target` is a class where it is an integer.

    Raises:
        RedoubtError: naming what was expected and what was found.
    """
    few = inputs[:2]
    with torch.no_grad():
        logits = network(few)
    if not isinstance(logits, torch.Tensor):
        raise RedoubtError(f"{attack}: expected a tensor of logits (N, classes), the model gives {_named(logits)}")
    if logits.dim() != 2 or len(logits) != len(few) or not logits.is_floating_point():
        found = f"{logits.dtype} {tuple(logits.shape)}"
        raise RedoubtError(f"{attack}: expected logits (N, classes), the model gives {found} for {len(few)} images")
    if (classes := logits.shape[1]) < 2:
        raise RedoubtError(f"{attack}: the model has one logit; give two classes as torch.cat([-z / 2, z / 2], 1)")
    if not logits.isfinite().all():
        raise RedoubtError(f"{attack}: the model's logits on clean images are not finite")
    low, high = (int(end) for end in labels.aminmax())
    if low < 0 or high >= classes:
        raise RedoubtError(f"{attack}: labels: {low} to {high}, the model has classes 0 to {classes - 1}")
    target = getattr(parameters, "target", None)
    if type(target) is int and not 0 <= target < classes:
        raise RedoubtError(f"{attack}: target: {target}, the model has classes 0 to {classes - 1}")


def _named(value: Any) -> str:
    keys = f" of {', '.join(map(str, value))}" if isinstance(value, dict) else ""
    return f"{type(value).__name__}{keys}"
