"""Typed pieces of the config that the steps read too: strict models and the training schedule."""

import reprlib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """A record that knows all of its keys and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


def explain(error: ValidationError) -> str:
    """Return the first problem of a validation error as `key: what was expected`."""
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"] if not isinstance(part, str) or not part.startswith("function")]
    where = ".".join(part if part.isprintable() else repr(part) for part in parts)
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if first["type"] == "missing":
        return f"{where}: this key is required"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {reprlib.repr(first['input'])}: {message}" if where else message


class Named(Strict):
    """A method and its parameters; in YAML either a bare name or `{name: ..., key: value}`."""

    name: str
    parameters: dict[str, Any] = {}


class Track(Strict):
    """What is measured on the test set before the first and after every epoch, for `history.csv`."""

    images: Annotated[int, Field(gt=0)] | None = Field(
        None, description="first test images used, by probes too; all when null"
    )


class Probe(Strict):
    """A measurement during training, for `trace.parquet`."""

    probe: str = Field(description="name of a probe: a file of redoubt/probes")
    every: Literal["epoch"] | Annotated[int, Field(gt=0)] = Field(
        "epoch", description="before the first and after every epoch, or before the first and after every k steps"
    )
    parameters: dict[str, Any] = Field({}, description="parameters of the probe")


class Training(Strict):
    """A training schedule."""

    epochs: Annotated[float, Field(ge=0, le=1e6)] = Field(
        description="passes over the training images; a fraction is allowed"
    )
    batch_size: Annotated[int, Field(gt=0)] = Field(description="images a step")
    learning_rate: Positive = Field(description="initial learning rate")
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="update rule")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="momentum of SGD, beta1 of Adam")
    nesterov: bool = Field(False, description="Nesterov's momentum, of SGD")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="L2 penalty on weights and biases")
    drops: dict[float, Positive] = Field({}, description="epoch from which the learning rate is multiplied: factor")
    augmentation: list[Literal["horizontal-flip", "random-crop"]] = Field(
        [], description="random changes of training images"
    )
    images: Annotated[int, Field(gt=0)] | None = Field(
        None, description="training images used, a fixed stratified draw; all when null"
    )
    track: Track = Field(Track(), description="what is measured after every epoch")
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
