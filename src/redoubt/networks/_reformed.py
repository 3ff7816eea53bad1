"""A frozen network behind an autoencoder that reforms images, with detectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from redoubt.networks._modes import eval_mode
from redoubt.preprocessing._layers import Pixels


class Autoencoder(torch.nn.Module):
    """Images (N, C, H, W) in [0, 1] to images, by 3x3 convolutions to `width`, `width` and C channels with sigmoids.

    Source: MagNet (Meng and Chen, CCS 2017), section 5.3, and its public code. Weights are Glorot's uniform ones, and
    biases zero, as that code's library draws them.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        convolutions = [
            torch.nn.Conv2d(before, after, 3, padding=1)
            for before, after in ((channels, width), (width, width), (width, channels))
        ]
        self.convolutions = torch.nn.ModuleList(convolutions)
        for convolution in convolutions:
            torch.nn.init.xavier_uniform_(convolution.weight)
            assert convolution.bias is not None
            torch.nn.init.zeros_(convolution.bias)

    def activations(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps of all layers; the last are the reconstructed images."""
        result = []
        for convolution in self.convolutions:
            images = convolution(images).sigmoid()
            result.append(images)
        return result

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return reconstructed images (N, C, H, W) in (0, 1)."""
        return self.activations(images)[-1]


def divergence(one: torch.Tensor, other: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the Jensen-Shannon divergence (N,) in nats between softmaxes of logits (N, classes) over a temperature."""
    p, q = ((logits / temperature).softmax(1) for logits in (one, other))
    middle = (0.5 * (p + q)).log()
    first, second = ((torch.xlogy(part, part) - part * middle).sum(1) for part in (p, q))
    return 0.5 * (first + second)


class Reformed(torch.nn.Module):
    """Inputs (N, C, H, W) to the logits of their reconstructions; `detects` shows which inputs are reported.

    Args:
        network: the classifier, on preprocessed inputs; it stays in eval mode and is not trained.
        shape: of an image, (C, H, W).
        width: channels of the autoencoder.
        order: p of the reconstruction error, the mean of |x - reconstruction|^p.
        temperatures: one detector for each, by the divergence of predictions before and after reconstruction.
    """

    thresholds: torch.Tensor

    def __init__(
        self,
        network: torch.nn.Module,
        shape: tuple[int, int, int],
        width: int,
        order: float = 1.0,
        temperatures: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.autoencoder = Autoencoder(shape[0], width)
        self.pixels = Pixels(shape)
        self.order, self.temperatures = order, tuple(temperatures)
        # Nothing is reported before the thresholds are known; weights files hold finite numbers only.
        never = torch.full((1 + len(self.temperatures),), torch.finfo(torch.float32).max)
        self.register_buffer("thresholds", never)

    def train(self, mode: bool = True) -> Reformed:
        """Set the mode of everything except the classifier, which stays in eval mode."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (N, classes)."""
        return self.network(self.reform(inputs))

    def reform(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs (N, C, H, W) made of reconstructed images."""
        return self.pixels.inputs(self.autoencoder(self.pixels.images(inputs)))

    @torch.no_grad()
    def marks(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction error and the divergences of inputs, (N, 1 + temperatures)."""
        return self._marks(inputs)

    def reports(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return these over their thresholds (N, 1 + temperatures), with gradients; from 1 an input is reported."""
        return self._marks(inputs) / self.thresholds

    def _marks(self, inputs: torch.Tensor) -> torch.Tensor:
        images, reformed = self.pixels.images(inputs), self.reform(inputs)
        error = (images - self.pixels.images(reformed)).abs().pow(self.order).flatten(1).mean(1)
        if not self.temperatures:
            return error[:, None]
        before, after = self.network(inputs), self.network(reformed)
        return torch.stack([error, *(divergence(before, after, value) for value in self.temperatures)], 1)

    def detects(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return which of the inputs (N, C, H, W) any detector reports, bool (N,)."""
        return (self.marks(inputs) >= self.thresholds).any(1)

    def calibrate(self, batches: Callable[[], Iterable[torch.Tensor]], share: float) -> None:
        """Set every threshold so that its detector reports at most a `share` of the inputs in `batches()`."""
        with eval_mode(self):
            marks = torch.cat([self.marks(inputs) for inputs in batches()]).sort(0, descending=True).values
        count = int(share * len(marks))
        beyond = torch.nextafter(marks, torch.full_like(marks, torch.inf))
        self.thresholds.copy_(beyond[count] if count < len(marks) else marks[-1])
