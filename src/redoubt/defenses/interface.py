"""What a defense may change in the training of a network, and what it declares.

A defense's module has `Parameters`, `DECLARES` and `Defense`. One that changes the network itself also has

    change(parameters, network, shape, classes) -> torch.nn.Module

which returns the network that is trained, saved and attacked; it may wrap `network` or edit it. `shape` is that of an
image, (C, H, W); new weights are drawn from torch's global generator. And, where the tensors of a model that training
starts from are not those of the changed network,

    adopt(network, state) -> None

which fills the changed network from the tensors (by name) of the start's network.

A `Defense` is asked in this order: `begin` once, `training_inputs` once, `groups` once, `step` for every batch (which
asks `loss`), `finish` once. A resumed training asks the first three again before it restores what `state` gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from redoubt.errors import RedoubtError
from redoubt.lazily import torch
from redoubt.records import Strict
from redoubt.study.entries import adaptive as wrappers
from redoubt.study.entries.model import Draws, Predicts, Training

Progress = Callable[[Iterable[int], str], Iterable[int]]
"""Steps and a title to the same steps, which may show on a terminal how far they are."""


@dataclass(frozen=True)
class Declaration:
    """What a defended model is; contract tests measure it.

    Attributes:
        draws: when a prediction in eval mode draws, by torch's global generator: never; once a call, for all images of
            the call; or for every image. What draws has a switch `still`, see `redoubt.networks._random`.
        predicts: by the logits of one draw, or by the mean softmax of several, of which its network then has
            `each_draw`.
        batch_dependent: a prediction depends on the other images of its batch.
        pretrained: training must start from another model's weights.
        networks: names of the networks it fits; None for any.
        changes: its module has a function `change`, and a model needs it to be built.
        adaptive: names of the wrappers (`redoubt.study.entries.adaptive`) by which attacks follow it, required; or
            `none: ` and the reason.

    Raises:
        RedoubtError: `adaptive` is missing, or is neither of these.
    """

    draws: Draws = "never"
    predicts: Predicts = "draw"
    batch_dependent: bool = False
    pretrained: bool = True
    networks: tuple[str, ...] | None = None
    changes: bool = False
    adaptive: tuple[str, ...] | str = ()

    def __post_init__(self) -> None:
        try:
            wrappers.check(self.adaptive)
        except ValueError as error:
            raise RedoubtError(f"DECLARES: {error}") from None


@dataclass(frozen=True)
class Setting:
    """What a defense is given at the start.

    Attributes:
        preprocessing: maps images (N, *shape) in [0, 1] to inputs of the network.
        shape: (C, H, W) of an image.
        classes: number of classes.
        schedule: epochs, batches, learning rates.
        count: number of training images.
        steps: number of steps in the whole training.
        device: where inputs and network are.
    """

    preprocessing: torch.nn.Module
    shape: tuple[int, int, int]
    classes: int
    schedule: Training
    count: int
    steps: int
    device: torch.device


@dataclass(frozen=True)
class Moment:
    """A point of the training: the step about to be taken and its epoch, both from 0.

    Attributes:
        epoch: passes over the training images that are complete.
        step: steps taken since the start of the training.
        steps_per_epoch: number of steps in a whole epoch.
        count: number of training images.
    """

    epoch: int
    step: int
    steps_per_epoch: int
    count: int

    @property
    def epochs(self) -> float:
        """Epochs since the start, with their fraction."""
        return self.step / self.steps_per_epoch


@dataclass(frozen=True)
class Batch:
    """Some training images.

    Attributes:
        inputs: (B, ...) of the network, augmented.
        labels: (B,) int64.
        positions: (B,) int64 on the CPU, places among the training images, from 0.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Group:
    """Weights that are updated by factors that differ from those of the schedule.

    Attributes:
        weights: names of weights or modules of the network, or tensors of the network or of the defense's `state`.
        learning_rate: factor of the schedule's learning rate.
        weight_decay: in place of the schedule's when not None.
    """

    weights: Sequence[str | torch.Tensor]
    learning_rate: float = 1.0
    weight_decay: float | None = None


class BaseDefense:
    """Training on the given inputs with the cross-entropy; subclasses override what they change.

    Args:
        parameters: of the defense.
        network: the network being trained, on preprocessed inputs. Weights that do not require a gradient when the
            training begins stay as they are.
    """

    def __init__(self, parameters: Strict, network: torch.nn.Module) -> None:
        self.parameters = parameters
        self.network = network

    def begin(self, setting: Setting) -> None:
        """Prepare for a training; draws come from torch's global generator."""

    def training_inputs(self, inputs: torch.Tensor, labels: torch.Tensor, progress: Progress) -> torch.Tensor:
        """Return what is trained on in place of `inputs` (N, ...)."""
        return inputs

    def groups(self) -> list[Group]:
        """Return groups of weights that differ from the schedule; all other weights of the network follow it."""
        return []

    def state(self) -> dict[str, torch.Tensor]:
        """Return by name the tensors that steps change beside those of the network; resuming copies into them."""
        return {}

    def loss(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch, a scalar that can be differentiated, and the logits (B, classes)."""
        logits = self.network(batch.inputs)
        return torch.nn.functional.cross_entropy(logits, batch.labels), logits

    def step(self, batch: Batch, moment: Moment, optimizer: torch.optim.Optimizer) -> tuple[torch.Tensor, torch.Tensor]:
        """Update the weights by one batch; return loss and logits as before the update, for the history.

        Draws come from torch's global generator, which is seeded by the moment. A weight without a gradient is not
        updated, so that a step may update some weights, and others in turn. The optimizer's learning rates are those
        of the moment.
        """
        optimizer.zero_grad()
        loss, logits = self.loss(batch, moment)
        loss.backward()
        optimizer.step()
        return loss.detach(), logits.detach()

    def finish(self, batches: Callable[[], Iterable[torch.Tensor]]) -> None:
        """Set what is learned after the last step; `batches()` yields the training inputs (B, ...) once."""
