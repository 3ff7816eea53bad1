"""What the training step is given of a model."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from redoubt.records import Count, Positive, Strict
from redoubt.study.entries.base import Entry, Method

Draws = Literal["never", "call", "image"]
"""When a model draws: never, once a call for all images of it, or for every image."""
Predicts = Literal["draw", "mean"]
"""What a model predicts by: the logits of one draw, or the mean softmax of several."""


class Defense(Method):
    """A defense, and what it says of itself that later steps must know."""

    changes: bool = Field(False, description="whether it changes the network")
    draws: Draws = Field("never", description="when predictions of its models draw: never, once a call, or per image")


class Probe(Strict):
    """A measurement during training, for `trace.parquet`."""

    probe: str = Field(description="name of a probe: a file of redoubt/probes")
    every: Literal["epoch"] | Count = Field(
        "epoch", description="before the first and after every epoch, or before the first and after every k steps"
    )
    parameters: dict[str, Any] = Field({}, description="parameters of the probe")


class Track(Strict):
    """What is measured on the test set before the first and after every epoch, for `history.csv`."""

    images: Count | None = Field(None, description="first test images used, by probes too; all when null")


class Stop(Strict):
    """When a training ends before its schedule does."""

    accuracy: Annotated[float, Field(gt=0, le=1)] = Field(
        description="share of the tracked test images that are classified correctly, after an epoch"
    )


class Training(Strict):
    """A training schedule."""

    epochs: Annotated[float, Field(ge=0, le=1e6)] = Field(
        description="passes over the training images; a fraction is allowed"
    )
    batch_size: Count = Field(description="images a step")
    learning_rate: Positive = Field(description="initial learning rate")
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="update rule")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="momentum of SGD, beta1 of Adam")
    nesterov: bool = Field(False, description="Nesterov's momentum, of SGD")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="L2 penalty on weights and biases")
    drops: dict[float, Positive] = Field({}, description="epoch from which the learning rate is multiplied: factor")
    augmentation: list[Literal["horizontal-flip", "random-crop"]] = Field(
        [], description="random changes of training images"
    )
    images: Count | None = Field(None, description="training images used, a fixed stratified draw; all when null")
    validation: Count | Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="number or share of training images held out: measured for history.csv, not trained on",
    )
    track: Track = Field(Track(), description="what is measured after every epoch")
    stop_at: Stop | None = Field(
        None, description="end it at the first epoch that reaches this, for a control of equal accuracy"
    )
    probes: list[Probe] = Field([], description="what else is measured, and how often")

    @field_validator("probes")
    @classmethod
    def _once(cls, probes: list[Probe]) -> list[Probe]:
        if len({probe.probe for probe in probes}) < len(probes):
            raise ValueError("a probe is given twice")
        return probes

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError("nesterov: true needs optimizer: sgd and a momentum above 0")
        return self


class ModelEntry(Entry):
    """What the training step reads of a model, seeds aside."""

    id: str
    dataset: str
    network: Method
    preprocessing: Method
    defense: Defense
    training: Training
    start: str | None = None
    weights: str | None = Field(None, description="SHA-256 of a user's file of weights that it starts from")
