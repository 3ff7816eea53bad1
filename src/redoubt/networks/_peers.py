"""Peer regularisation: features replaced by attention over the nearest pixels of peer images.

Source: PeerNets (Svoboda et al., ICLR 2019), section 3, equations (1) to (3), and section 4.1. What the text leaves
open (the form of the attention, own pixels, what dropping an edge means) is a parameter of `PeerRegularization`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch

from redoubt.errors import RedoubtError
from redoubt.networks._modes import eval_mode, output_shapes
from redoubt.networks._nearest import (
    Index,
    distinct,
    duplicates,
    enough,
    first_kept,
    index_of,
    nearest,
    some_copies,
    surely_enough,
    with_own,
)
from redoubt.networks._random import mean_softmax
from redoubt.networks._stand_ins import StandIn, standing
from redoubt.networks._weighted_sum import WeightedSum

Attention = Literal["gat", "printed"]
OwnPixels = Literal["none", "training", "always"]
DEDUPLICATE = {"cpu"}  # kinds of device on which it pays to search once for all equal pixels
ANSWERS = {"cpu"}  # kinds of device that tell a number at once; others are waited for
SLOPE = 0.2  # of LeakyReLU, as in graph attention networks (Velickovic et al. 2018)


def pixels(maps: torch.Tensor) -> torch.Tensor:
    """Return feature maps (B, d, H, W) as pixels (B*H*W, d), those of one image after the other."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def unit(features: torch.Tensor) -> torch.Tensor:
    """Return rows (P, d) of length one; a row of zeros stays, and is as near to any other."""
    return torch.nn.functional.normalize(features, dim=1)


@dataclass(frozen=True)
class PeerFeatures:
    """The pixels of one draw of peers at one layer, which test images may link to."""

    features: torch.Tensor  # (P, d)
    directions: torch.Tensor  # (P, d), of length one
    places: torch.Tensor  # (P,) of each pixel among all of the peers; further copies of a pixel may be left out
    total: int  # pixels of all of the peers, copies included

    @classmethod
    def of(cls, maps: torch.Tensor, copies: int) -> PeerFeatures:
        """Keep all different pixels of peers (N, d, H, W), and `copies` of those that are equal, bit for bit."""
        features = pixels(maps)
        places = torch.arange(len(features), device=maps.device)
        if maps.device.type in DEDUPLICATE:
            places = some_copies(*duplicates(features), copies)
        return cls(features[places], unit(features[places]), places, len(features))

    @cached_property
    def index(self) -> Index | None:
        """What makes the search among them faster, once for as long as they are kept; None where nothing does."""
        return index_of(self.directions)

    def joined_by(self, queries: torch.Tensor, size: int) -> PeerFeatures:
        """Return these and after them the pixels (Q, d) of images, `size` of each, every image as one more peer."""
        places = self.total + torch.arange(len(queries), device=queries.device) % size
        directions = torch.cat([self.directions, unit(queries.detach())])
        return PeerFeatures(
            torch.cat([self.features, queries]), directions, torch.cat([self.places, places]), self.total
        )


class PeerRegularization(torch.nn.Module):
    """Map features (B, d, H, W) to attention-weighted sums over their nearest peer pixels, shaped alike.

    Each pixel finds its `neighbours` nearest pixels (cosine) among all pixels of the peers: in training all other
    images of the batch, afterwards the peers that `PeerNetwork` gave it. Which pixels are near is a constant of
    differentiation; gradients flow through attention scores and, in training, through the neighbours' features. With
    fixed peers that leaves next to nothing for an attacker: attention moves weight among neighbours that are nearly
    equal (see `redoubt.probes.peer_gradients`). `stand_in` gives other gradients, see `redoubt.networks._stand_ins`.

    Args:
        channels: d.
        neighbours: K.
        attention: "gat" weighs by softmax(LeakyReLU(a)), as equation (1) and graph attention networks; "printed" by
            equation (2) as it stands, where LeakyReLU of a positive number does nothing, so that the query's share of
            a linear a() cancels in the softmax.
        edge_dropout: chance that a candidate edge is dropped before the nearest are picked, in training.
        attention_dropout: chance that an edge is dropped before the softmax, in training; one always stays.
        own_pixels: whether a pixel may link to pixels of its own image, itself included. "none": never. "training":
            where images are each other's peers, in training and among the fixed peers; a pixel is then its own nearest
            neighbour, which no pixel of a test image is. "always": a test image joins the fixed peers too, for its own
            pixels alone; the pixel itself is then the first of its K neighbours, and of equally near others those of
            its own image come first. Gradients flow through own pixels as through any neighbour in training.

    Cost: B*H*W x N*H*W inner products of d features; memory of the K nearest only, see `redoubt.networks._nearest`.
    """

    def __init__(
        self,
        channels: int,
        neighbours: int = 10,
        attention: Attention = "gat",
        edge_dropout: float = 0.2,
        attention_dropout: float = 0.5,
        own_pixels: OwnPixels = "none",
    ) -> None:
        super().__init__()
        self.neighbours, self.attention, self.own_pixels = neighbours, attention, own_pixels
        self.edge_dropout, self.attention_dropout = edge_dropout, attention_dropout
        self.score = torch.nn.Linear(2 * channels, 1)  # a() of equation (2): query's features, then neighbour's
        self.draws: list[PeerFeatures] | None = None  # None: the batch is its own graph
        self.expands = False  # the first layer of a network makes one copy of the batch for every draw
        self.merges = False  # equation (3) inside the layer: the mean over draws
        self.stand_in: StandIn | None = None  # called with the layer, maps and a draw of peers

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the regularised features (B, d, H, W); (M*B, d, H, W), draw by draw, where the layer expands."""
        if self.draws is None:
            return _shaped(self._within_batch(maps), maps)
        everywhere = self.expands or self.merges
        parts = [maps] * len(self.draws) if everywhere else maps.chunk(len(self.draws))
        outputs = [self._seen(part, draw) for part, draw in zip(parts, self.draws, strict=True)]
        return torch.stack(outputs).mean(0) if self.merges else torch.cat(outputs)

    def _seen(self, maps: torch.Tensor, draw: PeerFeatures) -> torch.Tensor:
        output = _shaped(self.link(maps, draw), maps)
        if self.stand_in is None or not torch.is_grad_enabled():
            return output
        return standing(output, self.stand_in(self, maps, draw))

    def link(self, maps: torch.Tensor, draw: PeerFeatures) -> torch.Tensor:
        """Return the regularised pixels (B*H*W, d) of images that see the peers of one draw and nothing else."""
        queries = pixels(maps)
        candidates, found = self.linked(queries, math.prod(maps.shape[2:]), draw)
        return WeightedSum.apply(candidates.features, found, self.weights(queries, candidates.features, found))

    def linked(self, queries: torch.Tensor, size: int, draw: PeerFeatures) -> tuple[PeerFeatures, torch.Tensor]:
        """Return what pixels (Q, d) of images, `size` of each, may link to, and the K that they do: indices (Q, K)."""
        if self.own_pixels != "always":
            return draw, self._nearest_peers(queries.detach(), draw, self.neighbours)
        candidates = draw.joined_by(queries, size)
        found = self._nearest_peers(queries.detach(), draw, self.neighbours - 1)
        return candidates, with_own(candidates.directions, size, found)

    def _nearest_peers(self, queries: torch.Tensor, draw: PeerFeatures, count: int) -> torch.Tensor:
        if count == 0:
            return torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
        if queries.device.type not in DEDUPLICATE:
            return nearest(unit(queries), draw.directions, count, index=draw.index)
        rows, inverse = distinct(*duplicates(queries), queries.new_zeros(len(queries), dtype=torch.int64))
        return nearest(unit(queries[rows]), draw.directions, count, index=draw.index)[inverse]

    def weights(self, queries: torch.Tensor, candidates: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        """Return attention (Q, K) over the neighbours `found` (Q, K) of queries (Q, d); rows sum to one."""
        own, theirs = self.score.weight[0].chunk(2)
        scores = (queries @ own + self.score.bias)[:, None] + (candidates @ theirs)[found]
        if self.attention == "gat":
            scores = torch.nn.functional.leaky_relu(scores, SLOPE)
        if self.training and self.attention_dropout > 0:
            draw = torch.rand(scores.shape, device=scores.device)
            kept = (draw >= self.attention_dropout) | (draw == draw.amax(1, keepdim=True))
            scores = scores.masked_fill(~kept, -math.inf)
        return scores.softmax(1)

    def _within_batch(self, maps: torch.Tensor) -> torch.Tensor:
        queries = pixels(maps)
        found = self.neighbours_within(queries.detach(), len(maps))
        return WeightedSum.apply(queries, found, self.weights(queries, queries, found))

    def neighbours_within(self, features: torch.Tensor, images: int) -> torch.Tensor:
        """Return the K nearest pixels (P, K) for each pixel of a batch (P, d), edges being dropped in training.

        To drop every candidate edge with probability p and then to take the K nearest is to walk down the list of
        candidates from the nearest, to toss a coin for each, and to stop at the K-th that stays: so only the top of
        the list is searched for. The few pixels whose coins ask for more are searched again in full; on a GPU so much
        of the list is searched for at once that there are none (`surely_enough`).
        """
        dropout = self.edge_dropout if self.training else 0.0
        size = len(features) // images
        available = len(features) - (size if self.own_pixels == "none" else 0)
        again = features.device.type in ANSWERS
        wanted = (enough if again else surely_enough)(self.neighbours, dropout)
        count = min(wanted, available) if available >= self.neighbours else self.neighbours
        directions = unit(features)
        found = self._search(features, directions, images, count)
        if dropout == 0:
            return found
        kept = torch.rand(found.shape, device=found.device) >= dropout
        picked = first_kept(found, kept, self.neighbours)
        if not again or count == available:
            return picked
        short = (kept.sum(1) < self.neighbours).nonzero()[:, 0]
        if len(short):
            more = self._rest(directions, short, found[short], size)
            coins = torch.rand(more.shape, device=found.device) >= dropout
            picked[short] = first_kept(
                torch.cat([found[short], more], 1), torch.cat([kept[short], coins], 1), self.neighbours
            )
        return picked

    def _search(self, features: torch.Tensor, directions: torch.Tensor, images: int, count: int) -> torch.Tensor:
        size = len(features) // images
        bounds = range(0, len(features) + 1, size)
        if features.device.type not in DEDUPLICATE:
            return nearest(directions, directions, count, (bounds, bounds) if self.own_pixels == "none" else None)
        order, begins = duplicates(features)
        image = torch.arange(images).repeat_interleave(size)
        rows, inverse = distinct(order, begins, image)
        candidates = some_copies(order, begins, count)
        edges = torch.tensor(bounds)
        own = torch.searchsorted(rows, edges).tolist(), torch.searchsorted(candidates, edges).tolist()
        found = nearest(directions[rows], directions[candidates], count, own if self.own_pixels == "none" else None)
        return candidates[found][inverse]

    def _rest(self, directions: torch.Tensor, rows: torch.Tensor, found: torch.Tensor, size: int) -> torch.Tensor:
        """Return the next nearest candidates of some pixels, three times as many as `found` (R, C) or all there are."""
        similarity = directions[rows] @ directions.T
        similarity.scatter_(1, found, -math.inf)
        left = len(directions) - found.shape[1]
        if self.own_pixels == "none":
            own = (rows // size)[:, None] * size + torch.arange(size, device=rows.device)
            similarity.scatter_(1, own, -math.inf)
            left -= size
        return similarity.topk(min(3 * found.shape[1], left), 1).indices


def _shaped(rows: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Return pixels (B*H*W, d) as feature maps like `maps` (B, d, H, W)."""
    batch, channels, height, width = maps.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


class PeerNetwork(torch.nn.Module):
    """A network with peer regularisation, and M fixed draws of N peers that its predictions are averaged over.

    In training mode the images of a batch are each other's peers, and the output is the network's. In eval mode each
    image sees the fixed peers only, never another test image; the output is the logarithm of the mean probability over
    the draws, which serves as logits (PeerNets, section 4.1). The peers go through the same network, each draw linked
    within itself, once: their features are kept until weights or peers change.

    Args:
        network: inputs (B, C, H, W) to logits; its peer layers are those in `layers`.
        layers: the peer layers by the name of the module that each follows.
        shape: (C, H, W) of one input.
        peers: N.
        draws: M.
        average: "outputs" averages the probabilities of M passes; "layers" averages in every layer (equation (3)).
    """

    peers: torch.Tensor

    def __init__(
        self,
        network: torch.nn.Module,
        layers: dict[str, PeerRegularization],
        shape: tuple[int, ...],
        peers: int = 50,
        draws: int = 10,
        average: Literal["outputs", "layers"] = "outputs",
    ) -> None:
        super().__init__()
        self.network, self.layers, self.average = network, layers, average
        self.count, self.draws = peers, draws
        self.register_buffer("peers", torch.zeros(draws * peers, *shape))
        self._known: tuple | None = None

    def set_peers(self, inputs: torch.Tensor, generator: torch.Generator | None = None) -> None:
        """Draw the peers of every draw from `inputs` (N', C, H, W), without repetition within a draw.

        Raises:
            RedoubtError: there are fewer inputs than peers.
        """
        if len(inputs) < self.count:
            raise RedoubtError(f"{self.count} peers asked for, but there are {len(inputs)} training images")
        places = [torch.randperm(len(inputs), generator=generator)[: self.count] for _ in range(self.draws)]
        self.peers.copy_(inputs[torch.cat(places).to(inputs.device)])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes) in training mode, log-probabilities (B, classes) in eval mode."""
        return self.network(inputs) if self.training else mean_softmax(self.each_draw(inputs))

    def each_draw(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (passes, B, classes) of every draw of fixed peers; of one pass that averages in layers."""
        with self.linked():
            logits = self.network(inputs)
        passes = self.draws if self.average == "outputs" else 1
        return logits.view(passes, len(inputs), logits.shape[1])

    @contextmanager
    def linked(self) -> Iterator[dict[str, list[PeerFeatures]]]:
        """Give the peer layers the features of the fixed peers in this context; yields them by layer, draw by draw."""
        features = self._features()
        try:
            for name, layer in self.layers.items():
                layer.draws = features[name]
            yield features
        finally:
            for layer in self.layers.values():
                layer.draws = None

    def _features(self) -> dict[str, list[PeerFeatures]]:
        state = [*self.parameters(), *self.buffers()]
        known = tuple((id(tensor), tensor.data_ptr(), tensor._version) for tensor in state)
        if self._known is None or self._known[0] != known:
            self._known = (known, self._record())
        return self._known[1]

    def _record(self) -> dict[str, list[PeerFeatures]]:
        found: dict[str, list[PeerFeatures]] = {}

        def note(name: str, layer: PeerRegularization, maps: torch.Tensor) -> None:
            found.setdefault(name, []).append(PeerFeatures.of(maps, layer.neighbours))

        handles = [
            layer.register_forward_pre_hook(lambda layer, maps, name=name: note(name, layer, *maps))
            for name, layer in self.layers.items()
        ]
        try:
            with torch.no_grad(), eval_mode(self.network):
                for peers in self.peers.split(self.count):
                    self.network(peers)
        finally:
            for handle in handles:
                handle.remove()
        first = next(iter(found))  # layers are met in the order of the forward pass
        for name, layer in self.layers.items():
            layer.merges = self.average == "layers"
            layer.expands = self.average == "outputs" and name == first
        return found


class _Followed(torch.nn.Module):
    """A module and the peer layer after it."""

    def __init__(self, module: torch.nn.Module, peers: PeerRegularization) -> None:
        super().__init__()
        self.module, self.peers = module, peers

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.peers(self.module(inputs))


def add_peer_regularization(
    network: torch.nn.Module,
    after: Sequence[str],
    shape: tuple[int, int, int],
    peers: int = 50,
    draws: int = 10,
    average: Literal["outputs", "layers"] = "outputs",
    **options: Any,
) -> PeerNetwork:
    """Turn a network into a peer network, in place.

    Args:
        network: inputs (B, *shape) to logits.
        after: names of the modules (as in `named_modules`) whose feature maps (B, d, H, W) are regularised.
        shape: (C, H, W) of one input.
        peers: N, images in one draw of fixed peers.
        draws: M, draws that predictions are averaged over.
        average: see `PeerNetwork`.
        options: of every `PeerRegularization`.

    Returns:
        The peer network. Train it; then call `set_peers(training_inputs)` and `eval()`.

    Raises:
        RedoubtError: a name is unknown or comes twice, or what the module returns is not a feature map.
    """
    known = dict(network.named_modules())
    if len(set(after)) < len(after):
        raise RedoubtError(f"after: {', '.join(after)} names a module twice")
    for name in after:
        if not name or name not in known:
            raise RedoubtError(f"after: {name!r} is not one of {', '.join(filter(None, known))}")
    sizes = output_shapes(network, after, shape)
    for name, size in sizes.items():
        if len(size) != 4:
            raise RedoubtError(f"after: {name!r} returns {size}, not feature maps (B, d, H, W)")
    layers = {}
    for name in after:
        layers[name] = PeerRegularization(sizes[name][1], **options)
        parent, _, child = name.rpartition(".")
        setattr(known[parent], child, _Followed(known[name], layers[name]))
    return PeerNetwork(network, layers, shape, peers, draws, average)
