"""What the attack step is given of an attack, or of a probe of finished models."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from redoubt.records import Count, Positive, Strict
from redoubt.study.entries.base import Entry

Gradient = Literal["exact", "straight-through", "soft-neighbours", "many-neighbours"]
Noise = Literal["drawn", "by-image", "none"]
"""Noise of a random model: drawn anew each time, the same each time for the same image, or none."""


class Select(Strict):
    """Which images are attacked."""

    split: Literal["test", "train", "validation"] = Field(
        "test",
        description="of the dataset; train to set a model beside itself, validation for what its training held out",
    )
    images: Count | None = Field(None, description="the given number of first ones; all when null")
    label: int | None = Field(None, description="only images of this class")
    not_label: int | None = Field(None, description="no images of this class, as for an attack that aims at it")

    @property
    def stored(self) -> Literal["test", "train"]:
        """Split of the dataset that the images lie in; what a training held out is part of `train`."""
        return "train" if self.split == "validation" else self.split


class Follow(Strict):
    """How crafting sees the model, beside its gradients; scores are those of the model."""

    nearest: Count = Field(100, description="neighbours that soft- and many-neighbours follow")
    temperature: Positive = Field(0.1, description="of soft neighbours at first, in units of a cosine")
    coldest: Positive = Field(0.01, description="the same at last")
    over: Count = Field(100, description="steps from the first to the last temperature, again and again")
    peers: Literal["fixed", "fresh"] = Field(
        "fixed", description="those of the model, or drawn again for every call; `draws` calls are then averaged"
    )
    pool: Count = Field(2000, description="first training images that fresh peers are drawn from")
    scale: Positive = Field(1.0, description="factor of the logits")
    detector: Annotated[float, Field(ge=0)] = Field(
        0.0, description="weight of what the detector marks, in units of a logit; attacks stay undetected with it"
    )


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
    draws: Count = Field(1, description="draws of a random model averaged at every step of crafting, a call each")
    mean: Literal["loss", "probabilities", "logits"] = Field("loss", description="what of these draws is averaged")
    judges: Count = Field(
        10, description="draws of a random model whose mean margin says which of several candidates is kept"
    )
    craft_noise: Noise = Field(
        "drawn", description="of a random model in crafting: drawn, decided by the image, or switched off"
    )
    score_noise: Noise = Field("drawn", description="the same, in scoring")
    gradient: Gradient = Field(
        "exact",
        description="of the model, in crafting; straight-through passes peer layers by as if they were the identity, "
        "soft-neighbours moves among the nearest peer pixels by their cosine, many-neighbours by attention over many",
    )
    surrogate: Follow = Follow()
    repetitions: Count = Field(
        1, description="times that every crafted image is scored, each with separate draws, for random models"
    )
    recraft: bool = Field(
        False, description="craft every image again, by other draws, in each repetition, not once for all of them"
    )
    keep_images: bool = Field(False, description="store the adversarial images and their probabilities too")

    @model_validator(mode="after")
    def _attack_or_probe(self) -> Self:
        if (self.attack is None) == (self.probe is None):
            raise ValueError("give exactly one of attack, probe")
        if self.engine != "redoubt" and self.draws > 1 and self.mean == "loss":
            raise ValueError(f"mean: the engine {self.engine} sees mean logits or probabilities, not each draw's loss")
        if self.recraft and (self.repetitions == 1 or self.attack in (None, "universal")):
            raise ValueError("recraft: needs an attack on each image, and repetitions: 2 or more")
        return self

    @property
    def method(self) -> tuple[str, str]:
        """Kind and name of the method, as the registry knows it."""
        return ("attacks", self.attack) if self.attack is not None else ("probes", str(self.probe))


class AttackEntry(Attack):
    """What the attack step reads of an attack."""

    id: str
