"""A model whose input gradients are finite, for every attack: where one is not, it is taken right beside the point.

`x ** 0.5` and `(a ** 2 + b ** 2) ** 0.5` are finite where an image is black or flat, and their gradients are not. Such
a gradient has no use: the attack would fail by its own arithmetic, where a model with 1e-6 under the root, which sees
the same images, would be fooled.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from redoubt.errors import RedoubtError
from redoubt.lazily import torch

REACHES = (1e-3, 1e-2)
"""Share of the way to a random image at which the gradient is taken; without bounds, of the largest input element."""


class Finite:
    """A callable from inputs to logits that gives every attack finite gradients, and refuses logits that are not.

    The gradient of an image that is not finite everywhere is taken again, as a whole, at a point nearby that lies in
    the bounds: moved towards a fixed random image by 1e-3 of the way, then by 1e-2. Logits are those of the point.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        bounds: range of an input element, None where the space has none.

    Attributes:
        gradients: images whose gradient was taken, each time counted.
        moved: those among them whose gradient was taken beside the point.

    Cost: one more forward and backward pass of the images that are concerned.
    """

    def __init__(self, network: Callable, bounds: tuple[float, float] | None) -> None:
        self.network, self.bounds = network, bounds
        self.gradients = self.moved = 0
        self._odd: torch.Tensor | None = None

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the model's logits (B, classes)."""
        if not (torch.is_grad_enabled() and inputs.requires_grad):
            return self._noted(self.network(inputs))
        point = inputs.view_as(inputs)  # a hook on the inputs themselves would stay there
        seen: dict[str, torch.Tensor] = {}
        logits = self.network(point)
        if not logits.requires_grad:
            raise RedoubtError("the model's logits do not depend on its inputs by operations that have gradients")
        logits.register_hook(lambda slopes: seen.update(slopes=slopes.detach()))
        point.register_hook(lambda gradient: self._repaired(gradient, inputs.detach(), seen["slopes"]))
        return self._noted(logits)

    def share_checked(self) -> float:
        """Return the share of gradients that were not finite at their point.

        Raises:
            RedoubtError: the model has given logits that are not finite.
        """
        if self._odd is not None and bool(self._odd):
            raise RedoubtError("the model's logits are not finite on images that the attack tried")
        return self.moved / max(self.gradients, 1)

    def _noted(self, logits: torch.Tensor) -> torch.Tensor:
        odd = ~logits.detach().sum().isfinite()  # looked at later: a GPU is not waited for
        self._odd = odd if self._odd is None else self._odd | odd
        return logits

    def _repaired(self, gradient: torch.Tensor, inputs: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor | None:
        """Return the gradient (B, ...) with finite elements alone; None where it has no others."""
        self.gradients += len(gradient)
        if math.isfinite(float(gradient.detach().sum())):
            return None
        rows = (~gradient.flatten(1).isfinite().all(1)).nonzero()[:, 0]
        self.moved += len(rows)
        gradient = gradient.clone()
        for reach in REACHES:
            if not len(rows):
                return gradient
            gradient[rows] = self._beside(inputs[rows], slopes[rows], reach)
            rows = rows[~gradient[rows].flatten(1).isfinite().all(1)]
        if len(rows):
            share = float((~gradient.isfinite()).float().mean())
            raise RedoubtError(
                f"gradients are not finite: {share:.1%} of the elements, in {len(rows)} of {len(gradient)} images, "
                "neither at the images nor beside them; attack with queries, or change what the model computes"
            )
        return gradient

    def _beside(self, inputs: torch.Tensor, slopes: torch.Tensor, reach: float) -> torch.Tensor:
        """Return the gradient at points next to inputs (A, ...), given the gradient (A, classes) in the logits."""
        draws = torch.rand(inputs.shape[1:], generator=torch.Generator().manual_seed(0)).to(inputs)
        if self.bounds is None:
            moved = inputs + reach * inputs.abs().max().clamp_min(1e-3) * (2.0 * draws - 1.0)
        else:
            low, high = self.bounds
            moved = torch.lerp(inputs, low + (high - low) * draws, reach).clamp(low, high)
        with torch.enable_grad():
            moved = moved.requires_grad_()
            return torch.autograd.grad(self.network(moved), moved, slopes)[0]
