"""Peer networks: peer regularisation after some modules of a network, trained from scratch by the cross-entropy.

Source: PeerNets (Svoboda et al., ICLR 2019), sections 3 and 4.1; see `redoubt.networks._peers`. A model that starts
from another peer network and trains for no epoch is the same network with other peers, as table 4 compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from redoubt.defenses.interface import BaseDefense, Declaration, Progress
from redoubt.lazily import lazy, torch
from redoubt.records import Strict

if TYPE_CHECKING:
    from redoubt.networks import _peers as peers
else:
    peers = lazy("redoubt.networks._peers")

DECLARES = Declaration(
    predicts="mean",
    pretrained=False,
    changes=True,
    adaptive=("straight-through", "soft-neighbours", "many-neighbours", "fresh-peers", "transfer"),
)

Chance = Annotated[float, Field(ge=0, lt=1)]


class Parameters(Strict):
    """The peer layers, and the graphs that predictions are averaged over."""

    neighbours: Annotated[int, Field(gt=0)] = Field(10, description="K, nearest peer pixels of a pixel")
    peers: Annotated[int, Field(gt=1)] = Field(50, description="N, images in one graph after training")
    draws: Annotated[int, Field(gt=0)] = Field(10, description="M, graphs that a prediction is averaged over")
    average: Literal["outputs", "layers"] = Field(
        "outputs", description="probabilities of M passes (section 4.1), or features in every layer (equation 3)"
    )
    attention: Literal["gat", "printed"] = Field(
        "gat", description="softmax(LeakyReLU(a)) of equation 1, or equation 2 as printed, where the query cancels"
    )
    edge_dropout: Chance = Field(
        0.2, description="chance that a candidate edge is dropped before the nearest, in training"
    )
    attention_dropout: Chance = Field(0.5, description="chance that an edge is dropped before the softmax, in training")
    own_pixels: Literal["none", "training", "always"] = Field(
        "none",
        description="when a pixel may link to its own image: never, in training, or afterwards too (itself always)",
    )
    after: Annotated[list[str], Field(min_length=1)] = Field(
        description="modules whose maps are regularised: conv1, conv2 of lenet5; stage2, stage3 of resnet-cifar"
    )


def change(
    parameters: Parameters, network: torch.nn.Module, shape: tuple[int, int, int], classes: int
) -> peers.PeerNetwork:
    """Return the peer network; its peers are images of zeros until training begins."""
    options = parameters.model_dump(exclude={"after", "peers", "draws", "average"})
    return peers.add_peer_regularization(
        network, parameters.after, shape, parameters.peers, parameters.draws, parameters.average, **options
    )


def adopt(network: peers.PeerNetwork, state: dict[str, torch.Tensor]) -> None:
    """Take the weights of another peer network, and leave its peers."""
    network.load_state_dict({**state, "peers": network.peers})


class Defense(BaseDefense):
    """The cross-entropy, on batches whose images are each other's peers."""

    network: peers.PeerNetwork

    def training_inputs(self, inputs: torch.Tensor, labels: torch.Tensor, progress: Progress) -> torch.Tensor:
        """Draw the fixed peers from all inputs (N', C, H, W), by torch's global generator; return the inputs."""
        self.network.set_peers(inputs)
        return inputs
