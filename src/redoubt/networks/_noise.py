"""Gaussian noise whose size is learned, on weights or on feature maps: one draw a call, shared by a batch's images."""

from __future__ import annotations

import fnmatch
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch.nn.utils import parametrize

from redoubt.errors import RedoubtError
from redoubt.networks._modes import output_shapes


class Noise(torch.nn.Module):
    """Returns what it is given with a Gaussian draw added, another in every call, in training and afterwards.

    Gradients flow through what it is given and through the size of the noise, by the draw of the same call. Draws come
    from torch's global generator. All of its weights are sizes. While `still`, nothing is drawn or added.
    """

    still = False

    def sizes(self) -> torch.Tensor:
        """Return what is learned of the size of the noise, as one tensor."""
        raise NotImplementedError


class WeightNoise(Noise):
    """Adds to a weight W the noise alpha n std(W), where n is standard normal, shaped as W.

    Source: PNI (He, Rakin and Fan, CVPR 2019), and its public code. Neither n nor std(W) is differentiated.

    Args:
        weight: W.
        by: what has an alpha: the layer, each output channel or each element.
        initial: alpha at the start.
    """

    def __init__(self, weight: torch.Tensor, by: Literal["layer", "channel", "element"], initial: float) -> None:
        super().__init__()
        shapes = {"layer": [1], "channel": [len(weight), *[1] * (weight.dim() - 1)], "element": weight.shape}
        self.alpha = torch.nn.Parameter(torch.full(shapes[by], initial))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the noisy weight."""
        if self.still:
            return weight
        return weight + self.alpha * (weight.detach().std() * torch.randn_like(weight))

    def sizes(self) -> torch.Tensor:
        """Return alpha."""
        return self.alpha


class FeatureNoise(Noise):
    """Adds to feature maps (B, C, H, W) the noise theta n, where n is standard normal, (C, H, W), for all images alike.

    What it returns is a tensor that nothing else holds, noise or not, so the next module may write to it.

    Source: Learn2Perturb (Jeddi et al., CVPR 2020), and its public code.

    Args:
        shape: of one image's features.
        initial: theta at the start.
        started: whether there is noise; a model that is loaded knows.
    """

    started: torch.Tensor

    def __init__(self, shape: Sequence[int], initial: float, started: bool = True) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.full(tuple(shape), initial))
        self.register_buffer("started", torch.tensor(float(started)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the noisy features."""
        return features.clone() if self.still else features + self.started * self.theta * torch.randn_like(self.theta)

    def sizes(self) -> torch.Tensor:
        """Return theta."""
        return self.theta


class GaussianWeight(Noise):
    """Adds sigma n to a mean, where n is standard normal, shaped as the mean: a weight of a Bayesian network.

    Source: Adv-BNN (Liu et al., ICLR 2019). Learned is log(sigma), as in the public code.

    Args:
        mean: the weight's.
        std: sigma at the start.
    """

    def __init__(self, mean: torch.Tensor, std: float) -> None:
        super().__init__()
        self.log_std = torch.nn.Parameter(torch.full_like(mean, math.log(std)))

    def forward(self, mean: torch.Tensor) -> torch.Tensor:
        """Return a draw of the weight."""
        return mean if self.still else mean + self.log_std.exp() * torch.randn_like(mean)

    def sizes(self) -> torch.Tensor:
        """Return sigma."""
        return self.log_std.exp()

    def divergence(self, mean: torch.Tensor, prior: float) -> torch.Tensor:
        """Return the Kullback-Leibler divergence, a scalar in nats, from the prior N(0, prior^2) of every element."""
        squares = (mean.square() + (2.0 * self.log_std).exp()).sum() / (2.0 * prior**2)
        return squares - self.log_std.sum() + mean.numel() * (math.log(prior) - 0.5)


def noises(network: torch.nn.Module) -> Iterator[Noise]:
    """Yield all parts of a network that add noise."""
    return (module for module in network.modules() if isinstance(module, Noise))


def weights(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Return all weights of a network that are sizes of noise."""
    return [weight for part in noises(network) for weight in part.parameters()]


def switch(network: torch.nn.Module, on: bool) -> None:
    """Let the feature noise of a network begin, or wait."""
    for part in noises(network):
        if isinstance(part, FeatureNoise):
            part.started.fill_(on)


def add_weight_noise(
    network: torch.nn.Module, by: Literal["layer", "channel", "element"], initial: float
) -> torch.nn.Module:
    """Add `WeightNoise` to every convolution and linear layer of a network, in place, and return it."""
    for module in list(network.modules()):
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            parametrize.register_parametrization(module, "weight", WeightNoise(module.weight, by, initial))
    return network


def add_feature_noise(
    network: torch.nn.Module, before: Sequence[str], shape: tuple[int, int, int], initial: float, started: bool
) -> torch.nn.Module:
    """Put `FeatureNoise` in front of some modules of a network, in place, and return it.

    Args:
        network: inputs (B, *shape) to logits.
        before: names of modules (as in `named_modules`) that return features shaped as those that they are given;
            patterns with `*`.
        shape: (C, H, W) of one input.
        initial: of every theta.
        started: whether there is noise.

    Raises:
        RedoubtError: a pattern matches no module.
    """
    known = dict(network.named_modules())
    for pattern in before:
        if not fnmatch.filter(known, pattern):
            raise RedoubtError(f"before: {pattern!r} matches none of {', '.join(filter(None, known))}")
    names = [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in before)]
    for name, size in output_shapes(network, names, shape).items():
        parent, _, child = name.rpartition(".")
        module = torch.nn.ReLU(inplace=True) if type(known[name]) is torch.nn.ReLU else known[name]
        parts = OrderedDict(noise=FeatureNoise(size[1:], initial, started), module=module)
        setattr(known[parent], child, torch.nn.Sequential(parts))
    return network


# -- Bayesian networks -------------------------------------------------------------------------------------------------


def randomise(network: torch.nn.Module, std: float) -> torch.nn.Module:
    """Make all weights and biases of a network Gaussian, in place, with new means, and return it.

    Means are uniform: within 1 / sqrt(fan-in) of zero in convolutions and linear layers, and in [0, 1] as scales of
    batch normalisation, whose shifts are zero; drawn from torch's global generator.

    Args:
        network: its layers with weights are convolutions, linear layers and batch normalisation.
        std: of every weight at the start.
    """
    for module in list(network.modules()):
        own = dict(module.named_parameters(recurse=False))
        for name, mean in own.items():
            with torch.no_grad():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    mean.uniform_() if name == "weight" else mean.zero_()
                else:
                    bound = own["weight"][0].numel() ** -0.5
                    mean.uniform_(-bound, bound)
            parametrize.register_parametrization(module, name, GaussianWeight(mean, std))
    return network


def divergences(network: torch.nn.Module, prior: float) -> list[torch.Tensor]:
    """Return the divergence from the prior N(0, prior^2) of the weights of each layer, in the order of the layers."""
    layers: list[Any] = [module for module in network.modules() if parametrize.is_parametrized(module)]
    return [
        torch.stack([part[0].divergence(part.original, prior) for part in layer.parametrizations.values()]).sum()
        for layer in layers
    ]
