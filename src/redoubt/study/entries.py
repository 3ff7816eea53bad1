"""What steps are given: a model, an attack, an artifact. Each is one record with one spelling as JSON.

`dump` leaves out every key that has its default, so a key that is added with a default changes no entry and no digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializeAsAny, ValidationError, model_validator

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.records import Positive, Share, Strict, explain

Count = Annotated[int, Field(gt=0)]
"""A number of images, passes or steps."""


class Entry(Strict):
    """A record that travels as JSON."""

    def dump(self) -> dict[str, Any]:
        """Return the entry as JSON data, without the keys that have their default."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    @classmethod
    def parse(cls, value: Any, what: str = "--entry") -> Self:
        """Return JSON data as a record, defaults filled in; an error calls the data `what`.

        Raises:
            RedoubtError: a key is missing, unknown or out of range.
        """
        if not isinstance(value, Mapping):
            raise RedoubtError(f"{what}: expected a mapping of keys, got {type(value).__name__}")
        try:
            return cls.model_validate(dict(value))
        except ValidationError as error:
            raise RedoubtError(f"{what}: {explain(error)}") from None


class Method(Entry):
    """A method by its name, and those of its parameters that differ from their defaults."""

    name: str
    parameters: dict[str, Any] = {}


class Defense(Method):
    """A defense, and what it says of itself that later steps must know."""

    changes: bool = Field(False, description="whether it changes the network")
    random: bool = Field(False, description="whether predictions of its models differ from call to call")


# -- models ------------------------------------------------------------------------------------------------------------


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


# -- attacks -----------------------------------------------------------------------------------------------------------


class Select(Strict):
    """Which test images are attacked."""

    images: Count | None = Field(None, description="the given number of first ones; all when null")
    label: int | None = Field(None, description="only images of this class")
    not_label: int | None = Field(None, description="no images of this class, as for an attack that aims at it")


class Attack(Entry):
    """An attack, or a probe of finished models, with its parameters."""

    attack: str | None = Field(None, description="name of an attack")
    probe: str | None = Field(None, description="in its place: name of a probe of finished models")
    engine: Literal["redoubt", "foolbox"] = Field("redoubt", description="whose implementation")
    space: Literal["pixels", "preprocessed"] = Field(
        "pixels", description="where it perturbs and measures: images in [0, 1], or the network's inputs, unbounded"
    )
    parameters: dict[str, Any] = Field({}, description="parameters of the attack, in units of the space")
    select: Select = Select()
    crafting: Count | None = Field(
        None,
        description="first training images that a universal perturbation is made on; the attacked ones when null",
    )
    draws: Count = Field(1, description="forward passes averaged at every step of crafting, for random models")
    draws_apart: bool = Field(
        False,
        description="each of these passes is a separate call, for models that draw once a call, not for every image",
    )
    gradient: Literal["exact", "straight-through"] = Field(
        "exact",
        description="of the model, in crafting; straight-through passes peer layers by as if they were the identity",
    )
    repetitions: Count = Field(
        1, description="times that every crafted image is scored, each with separate draws, for random models"
    )
    keep_images: bool = Field(False, description="store the adversarial images and their probabilities too")

    @model_validator(mode="after")
    def _attack_or_probe(self) -> Self:
        if (self.attack is None) == (self.probe is None):
            raise ValueError("give exactly one of attack, probe")
        return self

    @property
    def method(self) -> tuple[str, str]:
        """Kind and name of the method, as the registry knows it."""
        return ("attacks", self.attack) if self.attack is not None else ("probes", str(self.probe))


class AttackEntry(Attack):
    """What the attack step reads of an attack."""

    id: str


# -- artifacts ---------------------------------------------------------------------------------------------------------


class Verdict(Strict):
    """Tolerances of the verdict `reproduced`, fixed before results are seen."""

    rate: Share = Field(0.01, description="for rates (accuracy): absolute, 0.01 is one point")
    mean: Share = Field(0.10, description="for means (rho): relative to the published value")


class Shown(Strict):
    """What tables and legends say of a model."""

    labels: dict[str, str]
    dataset: str
    defense: Defense
    start: str | None = None


class Input(Strict):
    """The files of one model's history (attack null) or of its rows under an attack, one for each seed."""

    model: str
    attack: str | None = None
    missing: str | None = Field(None, description="why they cannot be made here")
    files: list[str]


class ArtifactEntry(Entry):
    """What drawing a table or figure reads."""

    study: str
    id: str
    scale: str
    kind: Literal["table", "figure"]
    plot: str
    title: str
    caption: str
    parameters: SerializeAsAny[Strict]
    """Those of the plot: an instance of `Parameters` of its module."""
    published: str
    """File of the study's printed numbers."""
    stamp: str
    comparable: bool
    verdict: Verdict = Verdict()
    models: dict[str, Shown]
    inputs: list[Input]

    @model_validator(mode="before")
    @classmethod
    def _typed_parameters(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(given := value.get("parameters"), Mapping) and "plot" in value:
            return value | {"parameters": registry.parameters("artifacts", value["plot"], dict(given))}
        return value


# -- cells -------------------------------------------------------------------------------------------------------------


class Cell(Strict):
    """A number of a table: the printed one beside ours, with its 95 % interval and verdict."""

    study: str
    artifact: str
    row: str
    column: str
    metric: str
    published: float | None
    reproduced: float | None
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    seeds: int
    verdict: str
    reason: str | None
