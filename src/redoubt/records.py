"""Typed pieces of the config that the steps read too: strict models and the training schedule."""

import reprlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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

    images: Annotated[int, Field(gt=0)] | None = Field(None, description="first test images used; all when null")
    deepfool: dict[str, Any] | None = Field(
        None, description="parameters of the DeepFool that measures rho_2; none when null"
    )


class Training(Strict):
    """A training schedule."""

    epochs: Annotated[float, Field(ge=0, le=1e6)] = Field(
        description="passes over the training images; a fraction is allowed"
    )
    batch_size: Annotated[int, Field(gt=0)] = Field(description="images a step")
    learning_rate: Positive = Field(description="initial learning rate")
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="update rule")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="momentum of SGD, beta1 of Adam")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="L2 penalty on weights and biases")
    drops: dict[float, Positive] = Field({}, description="epoch from which the learning rate is multiplied: factor")
    augmentation: list[Literal["horizontal-flip", "random-crop"]] = Field(
        [], description="random changes of training images"
    )
    images: Annotated[int, Field(gt=0)] | None = Field(
        None, description="training images used, a fixed stratified draw; all when null"
    )
    track: Track = Field(Track(), description="what is measured after every epoch")
