"""Peer graph, a probe of a finished model: the peer pixels that an image is linked to, and the image that they make.

It perturbs nothing. For some pixels of each image it reports the nearest peer pixels, their attention scores and
features; and it composes the Franken-image, in which every pixel is the attention-weighted sum of peer pixels.

Source: PeerNets (Svoboda et al., ICLR 2019), figures 1 and 3. Deviation, since the text does not say how attention
comes back to the input:
- One peer layer and one draw of peers at a time. Behind two layers an image pixel would be a mean of K x K others.
- A pixel of the layer's map stands for the image pixels that are nearest to the centre of what it sees; a peer pixel
  that it is linked to gives its own surroundings, pixel for pixel. Behind a stride of 4, patches of 4 x 4 are moved.
- Where a patch reaches over the edge of a peer image, pixels of the edge are repeated.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from redoubt.attacks import interface
from redoubt.errors import RedoubtError
from redoubt.lazily import lazy, torch
from redoubt.records import Strict

if TYPE_CHECKING:
    from redoubt.networks import _peers as peers
else:
    peers = lazy("redoubt.networks._peers")

NEEDS = "the network"
THREAT = "none: it perturbs nothing"
COST = "one forward pass for each draw of peers, and one of the Franken-image"
ENGINES = ("redoubt",)

Place = Annotated[int, Field(ge=0)]


class Parameters(Strict):
    """Which links are looked at."""

    layer: Place | str = Field(0, description="a peer layer, by its place in the network or its name")
    draw: Place = Field(0, description="which draw of fixed peers")
    pixels: Annotated[list[tuple[Place, Place]], Field(min_length=1)] = Field(
        [(10, 14), (14, 8), (20, 18)], description="rows and columns of the image pixels whose neighbours are reported"
    )


@dataclass(frozen=True)
class Links:
    """The graph of one peer layer and one draw over B images, n pixels being in a map."""

    features: torch.Tensor  # (B, n, d) of the images' pixels
    candidates: peers.PeerFeatures  # the pixels that they may link to
    found: torch.Tensor  # (B, n, K) which candidates they link to, nearest first
    attention: torch.Tensor  # (B, n, K), rows sum to one

    def peers(self) -> torch.Tensor:
        """Return the peer image (B, n, K) of each neighbour; N, the number of peers, is the image itself."""
        return self.candidates.places[self.found] // self.features.shape[1]

    def places(self) -> torch.Tensor:
        """Return which pixel (B, n, K) of its peer's map each neighbour is."""
        return self.candidates.places[self.found] % self.features.shape[1]


def peer_network(network: Callable) -> peers.PeerNetwork:
    """Return the peer network in a model.

    Raises:
        RedoubtError: there is none, or more than one.
    """
    modules = network.modules() if isinstance(network, torch.nn.Module) else ()
    found = [module for module in modules if isinstance(module, peers.PeerNetwork)]
    if len(found) != 1:
        raise RedoubtError(f"this model has {len(found) or 'no'} peer networks; give one whose defense is peernet")
    return found[0]


def chosen(network: peers.PeerNetwork, parameters: Parameters) -> tuple[str, peers.PeerRegularization]:
    """Return name and module of the peer layer that parameters ask for.

    Raises:
        RedoubtError: there is no such layer or draw.
    """
    names = list(network.layers)
    name = parameters.layer
    if isinstance(name, int) and name < len(names):
        name = names[name]
    if not isinstance(name, str) or name not in names:
        raise RedoubtError(f"layer: {name!r} is not one of {', '.join(names)} or 0 to {len(names) - 1}")
    if parameters.draw >= network.draws:
        raise RedoubtError(f"draw: {parameters.draw} asked for, but the model has draws 0 to {network.draws - 1}")
    return name, network.layers[name]


def links(model: Callable, network: peers.PeerNetwork, parameters: Parameters, inputs: torch.Tensor) -> Links:
    """Return the links of images, given as the model's inputs (B, C, H, W)."""
    name, layer = chosen(network, parameters)
    caught: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, arguments: caught.append(arguments[0]))
    try:
        model(inputs)
    finally:
        handle.remove()
    maps = caught[-1]  # the peers themselves may have passed before the images
    if len(maps) > len(inputs):  # a copy of the images for each draw
        maps = maps.chunk(network.draws)[parameters.draw]
    with network.linked() as features:
        draw = features[name][parameters.draw]
    queries = peers.pixels(maps)
    candidates, found = layer.linked(queries, math.prod(maps.shape[2:]), draw)
    attention = layer.weights(queries, candidates.features, found)
    features, found, attention = (part.unflatten(0, (len(inputs), -1)) for part in (queries, found, attention))
    return Links(features, candidates, found, attention)


def centres(network: peers.PeerNetwork, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the image row (H',) and column (W',) at the centre of what each pixel of a peer layer's map sees.

    Measured on a copy of the network that carries coordinates along: convolutions hand on the middle of their window,
    poolings its mean, norms and peer layers what they are given. Of an image of rows and an image of ones, the
    quotient is the row, whatever was added up on the way.
    """
    path = next(path for path, module in network.network.named_modules() if module is network.layers[name])
    carrier = copy.deepcopy(network.network).double().eval()
    for parent in list(carrier.modules()):
        _carry_coordinates(parent)
        for key, child in parent.named_children():
            if isinstance(child, torch.nn.MaxPool2d):
                mean = torch.nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(parent, key, mean)
    caught: list[torch.Tensor] = []
    carrier.get_submodule(path).register_forward_pre_hook(lambda _, arguments: caught.append(arguments[0]))
    image = network.peers.new_ones(3, *network.peers.shape[1:], dtype=torch.float64)
    image[1] *= torch.arange(image.shape[2], device=image.device)[:, None]
    image[2] *= torch.arange(image.shape[3], device=image.device)
    carrier(image)
    ones, rows, columns = caught[0].mean(1)
    return (rows / ones).mean(1).round(decimals=6), (columns / ones).mean(0).round(decimals=6)


def _carry_coordinates(module: torch.nn.Module) -> None:
    if isinstance(module, torch.nn.Conv2d):
        weight = module.weight.data.zero_()
        middles = [{(size - 1) // 2, size // 2} for size in weight.shape[2:]]
        for row in middles[0]:
            for column in middles[1]:
                weight[:, :, row, column] = 1 / weight.shape[1]
        if module.bias is not None:
            module.bias.data.zero_()
    elif isinstance(module, torch.nn.BatchNorm2d):
        module.reset_running_stats()
        module.reset_parameters()
    elif isinstance(module, peers.PeerRegularization):
        module.forward = lambda maps: maps  # type: ignore[method-assign]  # features pass, in this copy alone


def nearest_centre(positions: torch.Tensor, middles: torch.Tensor) -> torch.Tensor:
    """Return for each position (n,) in an image which of the ascending centres (m,) is nearest, the first of two."""
    return (positions[:, None] - middles).abs().argmin(1)


def composed(
    pictures: torch.Tensor,
    images: torch.Tensor,
    graph: Links,
    middles: tuple[torch.Tensor, torch.Tensor],
    shape: tuple[int, int],
) -> torch.Tensor:
    """Return the Franken-images (B, C, H, W).

    Args:
        pictures: (N, C, H, W) of the peers.
        images: (B, C, H, W), which may be linked to themselves.
        graph: links of B images.
        middles: image row and column at the centre of each map pixel, see `centres`.
        shape: (H, W).
    """
    rows, columns = (torch.arange(size, device=pictures.device) for size in shape)
    row_of, column_of = nearest_centre(rows, middles[0]), nearest_centre(columns, middles[1])
    width = len(middles[1])
    own = (row_of[:, None] * width + column_of).flatten()  # (H*W,) map pixel of each image pixel
    places, linked = graph.places()[:, own], graph.peers()[:, own]  # (B, H*W, K)
    itself = len(pictures) + torch.arange(len(images), device=images.device)[:, None, None]
    linked = torch.where(linked == len(pictures), itself, linked)
    down = (middles[0][places // width] - middles[0][own // width, None]).round().long()
    right = (middles[1][places % width] - middles[1][own % width, None]).round().long()
    row = (rows.repeat_interleave(shape[1])[:, None] + down).clamp(0, shape[0] - 1)
    column = (columns.repeat(shape[0])[:, None] + right).clamp(0, shape[1] - 1)
    colours = torch.cat([pictures, images]).permute(0, 2, 3, 1)[linked, row, column]  # (B, H*W, K, C)
    summed = (graph.attention[:, own, :, None] * colours).sum(2)
    return summed.transpose(1, 2).unflatten(2, shape).contiguous()


def pictures_of(model: Callable, inputs: torch.Tensor) -> torch.Tensor:
    """Return peers (N, C, H, W), which are inputs of the network, as images in [0, 1].

    Raises:
        RedoubtError: the model's preprocessing cannot be turned back.
    """
    layer = getattr(model, "preprocessing", None)
    if layer is None or isinstance(layer, torch.nn.Identity):
        return inputs.clamp(0, 1)
    if not hasattr(layer, "to_images"):
        raise RedoubtError(f"peer-graph: {type(layer).__name__} cannot be turned back, so that peers have no pictures")
    return layer.to_images(inputs).clamp(0, 1)


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield the images as they are, with their links.

    Facts, P being the chosen pixels, K the neighbours, nearest first, and d the channels; each is one flat row:
        layer, draw, channels: scalars.
        places: (P x 2) row and column, in the image, of the centres of the map's pixels nearest to the chosen ones.
        features: (P x d).
        peers: (P x K) which of the shared peers, N being the image itself.
        peer_places: (P x K x 2), like places; peer_features: (P x K x d).
        similarity, attention: (P x K).
        franken: (C x H x W) of the Franken-image; franken_label: the class that the model sees in it.
    Shared by all images: peers (N, C, H, W), images in [0, 1]; cell (2,), rows and columns from one centre to the next.

    Raises:
        RedoubtError: the model has no peer layers, or not this layer, draw or pixel; the space is not `pixels`.
    """
    if context.bounds is None:
        raise RedoubtError("peer-graph: its pictures are images in [0, 1]; give the attack `space: pixels`")
    with torch.no_grad():
        view = _View(network, parameters)
    for start, inputs, _ in batches:
        with torch.no_grad():
            facts = view.facts(inputs)
        yield interface.Crafted(start, inputs, facts, {"peers": view.pictures, "cell": view.cell})


class _View:
    """What of a model is looked at: one layer, one draw, some pixels."""

    def __init__(self, model: Callable, parameters: Parameters) -> None:
        self.model, self.parameters = model, parameters
        self.network = peer_network(model)
        self.layer, _ = chosen(self.network, parameters)
        rows, columns = centres(self.network, self.layer)
        self.middles = rows.to(self.network.peers.dtype), columns.to(self.network.peers.dtype)
        self.pictures = pictures_of(model, self.network.peers.split(self.network.count)[parameters.draw])
        height, width = self.pictures.shape[2:]
        self.shape = height, width
        steps = (part[1:2] - part[:1] for part in self.middles)
        self.cell = torch.cat([step if len(step) else step.new_ones(1) for step in steps])
        self.picked = _picked(parameters.pixels, self.middles, self.shape)

    def facts(self, inputs: torch.Tensor) -> dict[str, Any]:
        """Return the facts of images (B, C, H, W), see `run`."""
        graph = links(self.model, self.network, self.parameters, inputs)
        franken = composed(self.pictures, inputs, graph, self.middles, self.shape)
        features, found = graph.features[:, self.picked], graph.found[:, self.picked]
        cosines = graph.candidates.directions[found] @ peers.unit(features.flatten(0, 1)).view_as(features)[..., None]
        rows = {
            "places": self._where(self.picked).expand(len(inputs), -1, -1),
            "features": features,
            "peers": graph.peers()[:, self.picked],
            "peer_places": self._where(graph.places()[:, self.picked]),
            "peer_features": graph.candidates.features[found],
            "similarity": cosines,
            "attention": graph.attention[:, self.picked],
            "franken": franken,
        }
        facts = {"layer": self.layer, "draw": self.parameters.draw, "channels": features.shape[2]}
        facts |= {name: list(tensor.flatten(1).cpu().numpy()) for name, tensor in rows.items()}
        return facts | {"franken_label": self.model(franken).argmax(1)}

    def _where(self, places: torch.Tensor) -> torch.Tensor:
        """Return row and column in the image (..., 2) of pixels of the map."""
        width = len(self.middles[1])
        return torch.stack([self.middles[0][places // width], self.middles[1][places % width]], -1)


def _picked(
    pixels: list[tuple[int, int]], middles: tuple[torch.Tensor, torch.Tensor], shape: tuple[int, int]
) -> torch.Tensor:
    """Return the map's pixels (P,) nearest to pixels of the image."""
    for row, column in pixels:
        if row >= shape[0] or column >= shape[1]:
            raise RedoubtError(f"pixels: ({row}, {column}) is not in an image of {shape[0]} x {shape[1]} pixels")
    chosen_rows, chosen_columns = torch.tensor(pixels, device=middles[0].device).T
    return nearest_centre(chosen_rows, middles[0]) * len(middles[1]) + nearest_centre(chosen_columns, middles[1])
