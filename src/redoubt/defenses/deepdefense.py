"""DeepDefense: the norm of the DeepFool perturbation as a regulariser.

Source: DeepDefense, equations (3) and (6). The paper builds a reverse network to differentiate the perturbation; here
DeepFool is walked once without gradients to learn which images take which steps towards which classes, and those
steps are then repeated with gradients kept, for any network that autograd can differentiate twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from redoubt.attacks import deepfool
from redoubt.defenses.interface import BaseDefense, Batch, Declaration, Moment
from redoubt.errors import RedoubtError
from redoubt.lazily import torch
from redoubt.networks._modes import eval_mode

DECLARES = Declaration(adaptive=("log-odds", "margin"))


class Parameters(deepfool.Parameters):
    """The regulariser's weights, and the DeepFool that it differentiates."""

    lambda_: Annotated[float, Field(ge=0)] = Field(15.0, alias="lambda", description="weight of the regulariser")
    c: Annotated[float, Field(gt=0)] = Field(25.0, description="scale of the ratio for correctly classified images")
    d: Annotated[float, Field(gt=0)] = Field(5.0, description="scale of the ratio for misclassified images")
    p: Annotated[float, Field(ge=1)] = Field(2.0, description="order of the norm")
    shape: Literal["exp", "linear"] = Field("exp", description="the function R of equation (6)")
    layers: list[str] | None = Field(
        None, description="the only layers that the regulariser's gradient reaches; all when null"
    )


def retrace(
    network: Callable, inputs: torch.Tensor, steps: list[deepfool.Step], parameters: deepfool.Parameters
) -> torch.Tensor:
    """Repeat the steps of a DeepFool walk so that the perturbation can be differentiated by the weights.

    Args:
        network: inputs (N, ...) to logits, in eval mode.
        inputs: (N, ...).
        steps: what `deepfool.perturb` returned; which images step and towards which class are constants.
        parameters: those of the walk.

    Returns:
        The perturbation (N, ...), equal to that of the walk up to rounding.

    Cost: for every step one forward and one backward pass, both kept for differentiation.
    """
    stretch = 1.0 + parameters.overshoot
    total = torch.zeros_like(inputs)
    for step in steps:
        points = inputs[step.rows] + stretch * total[step.rows]
        if not points.requires_grad:
            points.requires_grad_()
        logits = network(points)
        f = (logits.gather(1, step.targets[:, None]) - logits.gather(1, step.sources[:, None]))[:, 0]
        (w,) = torch.autograd.grad(f.sum(), points, create_graph=True)
        norm = w.flatten(1).norm(dim=1) + parameters.guard
        lengths = f.abs() / norm.square()
        total = total.index_add(0, step.rows, lengths.view(-1, *[1] * (inputs.dim() - 1)) * w)
    return stretch * total


class Defense(BaseDefense):
    """The cross-entropy plus the regulariser of equation (6), both as means over the batch."""

    parameters: Parameters

    def __init__(self, parameters: Parameters, network: torch.nn.Module) -> None:
        super().__init__(parameters, network)
        self.kept: set[int] | None = None
        if parameters.layers is not None:
            known = dict(network.named_modules())
            if missing := [name for name in parameters.layers if name not in known]:
                raise RedoubtError(
                    f"deepdefense: layers: {missing[0]!r} is not one of {', '.join(n for n in known if n)}"
                )
            self.kept = {id(weight) for name in parameters.layers for weight in known[name].parameters()}

    def ratios(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the relative size ||perturbation||_p / ||input||_p of every image (N,) and which are misclassified.

        Correctly classified images are pushed to the nearest other class, misclassified ones towards their label.
        """
        options, network = self.parameters, self.network
        _, predicted, steps = deepfool.perturb(network, inputs, options)
        wrong = predicted != labels
        if wrong.any():
            # One walk serves both kinds: a misclassified image repeats the steps towards its label instead.
            steps = [_without(step, wrong) for step in steps]
            rows = wrong.nonzero()[:, 0]
            _, _, back = deepfool.perturb(network, inputs[rows], options, towards=labels[rows])
            steps += [deepfool.Step(rows[step.rows], step.sources, step.targets) for step in back]
        perturbation = retrace(network, inputs, [step for step in steps if len(step.rows)], options)
        # The guard keeps the norm's derivative finite for an image that did not move.
        size = torch.linalg.vector_norm(perturbation.flatten(1) + options.guard, options.p, dim=1)
        length = torch.linalg.vector_norm(inputs.flatten(1), options.p, dim=1).clamp_min(options.guard)
        return size / length, wrong

    def regulariser(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return lambda times the mean of R over the batch, a scalar."""
        options = self.parameters
        with eval_mode(self.network):
            ratio, wrong = self.ratios(inputs, labels)
        argument = torch.where(wrong, options.d * ratio, -options.c * ratio)
        value = argument.exp() if options.shape == "exp" else argument
        return options.lambda_ * value.mean()

    def loss(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, torch.Tensor]:
        """Return classification loss plus regulariser, and the logits (B, classes)."""
        entropy, logits = super().loss(batch, moment)
        regulariser = self.regulariser(batch.inputs, batch.labels)
        if self.kept is None:
            return entropy + regulariser, logits
        return entropy + self._masked(regulariser, self.kept), logits

    def _masked(self, regulariser: torch.Tensor, kept: set[int]) -> torch.Tensor:
        """Return a scalar with the value of `regulariser` and its gradient in the kept layers only."""
        weights = [weight for weight in self.network.parameters() if id(weight) in kept]
        gradients = torch.autograd.grad(regulariser, weights, allow_unused=True)
        products = ((w * g).sum() for w, g in zip(weights, gradients, strict=True) if g is not None)
        surrogate = sum(products, regulariser.new_zeros(()))
        return surrogate - surrogate.detach() + regulariser.detach()


def _without(step: deepfool.Step, dropped: torch.Tensor) -> deepfool.Step:
    keep = ~dropped[step.rows]
    return deepfool.Step(step.rows[keep], step.sources[keep], step.targets[keep])
