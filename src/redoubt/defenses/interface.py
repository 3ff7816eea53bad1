"""What a defense may change in the training of a network, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from redoubt.lazily import lazy
from redoubt.schema import Strict

torch = lazy("torch")


@dataclass(frozen=True)
class Declaration:
    """What a defended model is; contract tests measure it.

    Attributes:
        random: predictions differ from call to call.
        batch_dependent: a prediction depends on the other images of its batch.
        pretrained: training starts from another model's weights.
        networks: names of the networks it fits; None for any.
    """

    random: bool = False
    batch_dependent: bool = False
    pretrained: bool = True
    networks: tuple[str, ...] | None = None


class BaseDefense:
    """Training on the given inputs with the cross-entropy; subclasses override what they change.

    Args:
        parameters: of the defense.
        network: the network being trained, on preprocessed inputs.
    """

    def __init__(self, parameters: Strict, network: torch.nn.Module) -> None:
        self.parameters = parameters
        self.network = network

    def training_inputs(self, inputs: torch.Tensor, labels: torch.Tensor, progress) -> torch.Tensor:
        """Return what is trained on in place of `inputs` (N, ...); called once, before the first step."""
        return inputs

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch, a scalar that can be differentiated, and the logits (B, classes)."""
        logits = self.network(inputs)
        return torch.nn.functional.cross_entropy(logits, labels), logits

    def after_step(self) -> None:
        """Change the weights after an update; randomness comes from torch's global generator."""
