"""What the training step is given of a model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from redoubt.records import Count, Positive, Strict
from redoubt.study.entries.base import Entry, Method


class Defense(Method):
    """A defense, and what it says of itself that later steps must know."""

    changes: bool = Field(False, description="whether it changes the network")
    random: bool = Field(False, description="whether predictions of its models differ from call to call")


class Probe(Strict):
    """A measurement that is taken while a model is trained."""

    probe: str = Field(description="name of a probe")
    every: Literal["epoch"] | Count = Field("epoch", description="after every epoch, or every given number of steps")
    parameters: dict[str, Any] = Field({}, description="parameters of the probe")


class Track(Strict):
    """What is measured on the test set before the first and after every epoch, for `history.csv`."""

    images: Count | None = Field(None, description="first test images used; all when null")
    deepfool: dict[str, Any] | None = Field(
        None, description="parameters of the DeepFool that measures rho_2; none when null"
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
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="L2 penalty on weights and biases")
    drops: dict[float, Positive] = Field({}, description="epoch from which the learning rate is multiplied: factor")
    augmentation: list[Literal["horizontal-flip", "random-crop"]] = Field(
        [], description="random changes of training images"
    )
    images: Count | None = Field(None, description="training images used, a fixed stratified draw; all when null")
    track: Track = Field(Track(), description="what is measured after every epoch")
    probes: list[Probe] = Field([], description="what else is measured in training, for `trace.parquet`")


class ModelEntry(Entry):
    """What the training step reads of a model, seeds aside."""

    id: str
    dataset: str
    network: Method
    preprocessing: Method
    defense: Defense
    training: Training
    start: str | None = None
