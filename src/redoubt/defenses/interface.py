"""What a defense may change in the training of a network, and what it says of itself.

A defense's module has `Parameters`, `DECLARES` and `Defense`. One that changes the network itself also has

    change(parameters, network, shape, classes) -> torch.nn.Module

which returns the network that is trained, saved and attacked; it may wrap `network` or edit it. `shape` is that of an
image, (C, H, W); new weights are drawn from torch's global generator. And, where the tensors of a model that training
starts from are not those of the changed network,

    adopt(network, state) -> None

which fills the changed network from the tensors (by name) of the start's network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from redoubt.lazily import lazy
from redoubt.records import Strict

torch = lazy("torch")


@dataclass(frozen=True)
class Declaration:
    """What a defended model is; contract tests measure it.

    Attributes:
        random: predictions differ from call to call.
        batch_dependent: a prediction depends on the other images of its batch.
        pretrained: training must start from another model's weights.
        networks: names of the networks it fits; None for any.
        changes: its module has a function `change`, and a model needs it to be built.
    """

    random: bool = False
    batch_dependent: bool = False
    pretrained: bool = True
    networks: tuple[str, ...] | None = None
    changes: bool = False


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

    def begin(self, preprocessing: torch.nn.Module, shape: tuple[int, int, int]) -> None:
        """Learn how images (N, *shape) in [0, 1] become inputs; called before anything else, or not at all.

        Where it is not called, inputs are the images.
        """

    def training_inputs(self, inputs: torch.Tensor, labels: torch.Tensor, progress) -> torch.Tensor:
        """Return what is trained on in place of `inputs` (N, ...); called once, before the first step."""
        return inputs

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch, a scalar that can be differentiated, and the logits (B, classes)."""
        logits = self.network(inputs)
        return torch.nn.functional.cross_entropy(logits, labels), logits

    def after_step(self) -> None:
        """Change the weights after an update; randomness comes from torch's global generator."""

    def finish(self, batches: Callable[[], Iterable[torch.Tensor]]) -> None:
        """Set what is learnt after the last step; `batches()` walks over the training inputs (B, ...) once."""
