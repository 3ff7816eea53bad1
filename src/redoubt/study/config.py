"""The shape of every config file, as typed records; `workflow/schemas/` holds their JSON schemas."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from redoubt.records import Count, Share, Strict
from redoubt.study.entries.artifact import Verdict
from redoubt.study.entries.attack import Attack
from redoubt.study.entries.model import Training

Id = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]+(-[a-z0-9.]+)*$", max_length=100, description="lower case, fields joined by hyphens"),
]
StudyId = Annotated[str, Field(pattern=r"^[a-z0-9]+([-_][a-z0-9]+)*$", max_length=100)]
Method = str | dict[str, Any]


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is given twice")
    return seeds


Seeds = Annotated[
    list[Annotated[int, Field(ge=0)]],
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_distinct),
]


class Data(Strict):
    """Where datasets come from."""

    mirrors: list[str] = Field([], description="folders or https addresses, tried in order; 'official' is the source")
    imagenet: str | None = Field(None, description="folder with train/ and val/, as torchvision's ImageFolder reads it")


class Config(Strict):
    """`config/config.yaml`."""

    scale: Id = Field("demo", description="how much is run: a file of config/scales/")
    studies: list[StudyId] = Field(["deepdefense"], description="folders of config/studies/ that take part")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where torch computes; auto takes a GPU if there is one"
    )
    data: Data = Data()
    verdict: Verdict = Verdict()


class Baseline(Strict):
    """A model trained from scratch."""

    dataset: str = Field(description="name of a dataset")
    network: Method = Field(description="name of a network, or a mapping of its name and parameters")
    preprocessing: Method = Field("identity", description="first layer of the model: a name, or name and parameters")
    training: Training
    labels: dict[str, str] = Field({}, description="what tables and legends call it: dataset, network, method")
    seeds: Seeds = Field([0], description="one run for each")


class Defended(Strict):
    """A model that a defense makes: from another model, its `start`, or from scratch, as a baseline is made."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["start"]}, {"required": ["dataset", "network"]}]}
    )

    start: Id | None = Field(None, description="model whose weights, network and preprocessing it starts from")
    dataset: str | None = Field(None, description="from scratch: name of a dataset")
    network: Method | None = Field(None, description="from scratch: a network, or a mapping of its name and parameters")
    preprocessing: Method | None = Field(
        None, description="from scratch: first layer of the model, a name, or name and parameters; identity when null"
    )
    defense: str = Field(description="name of a defense")
    parameters: dict[str, Any] = Field({}, description="parameters of the defense")
    training: Training
    labels: dict[str, str] = Field({}, description="what tables and legends call it, over those of its start")
    seeds: Seeds = Field([0], description="one run for each, from the start's first seed")

    def problem(self) -> str | None:
        """Return what is wrong with the way in which the model comes to be, or None."""
        given = [key for key in ("dataset", "network", "preprocessing") if getattr(self, key) is not None]
        if self.start is not None and given:
            return f"{given[0]} comes with the start; give start, or dataset and network"
        if self.start is None and not {"dataset", "network"} <= set(given):
            return "this model starts from nothing; give start, or dataset and network"
        return None


class Source(Strict):
    """Finished rows of another model that an evaluation builds on: of the same seed where that model declares it."""

    model: Id
    attack: Id


class Evaluation(Strict):
    """An attack on some models."""

    attack: Id
    models: list[str] = Field(description="ids, patterns with *, or $name of a group")
    reads: list[Source] = Field([], description="rows that the attack builds on")
    crafted_on: Id | None = Field(
        None, description="model that the examples are made on, to be scored on `models`; the scored one when null"
    )


class Artifact(Strict):
    """A table or a figure of the paper, or an extra one."""

    kind: Literal["table", "figure"]
    plot: str = Field(description="what draws it: a file of redoubt/artifacts")
    title: str
    caption: str = Field(description="what it shows, in our own words")
    parameters: dict[str, Any] = {}


class Value(Strict):
    """One number of an artifact's CSV: the row that all keys of `where` match, in `column`."""

    artifact: Id
    where: dict[str, Any]
    column: str = "reproduced"


Operand = Value | float


class Compare(Strict):
    """`left` stands in a relation to `factor` times `right` plus `offset`."""

    check: Literal["compare"]
    left: Operand
    relation: Literal[">", ">=", "<", "<="]
    right: Operand
    factor: float = 1.0
    offset: float = 0.0


class Best(Strict):
    """One row has the highest value of every column among some rows."""

    check: Literal["best"]
    artifact: Id
    model: Id
    among: list[Id] = Field(description="rows it is compared with")
    columns: list[str]
    rank: Count = Field(1, description="place it takes: 1 is the highest")


class Trend(Strict):
    """Rank correlation of two columns over the rows that match."""

    check: Literal["trend"]
    artifact: Id
    where: dict[str, Any] = {}
    x: str
    y: str
    sign: Literal["rising", "falling", "flat"]
    strength: Share = Field(0.5, description="least |rank correlation| for rising and falling, most for flat")


class Consistent(Strict):
    """The ratio exceeds `threshold` exactly when `value` exceeds `level`, or `value` is within `slack` of it."""

    check: Literal["consistent"]
    ratio: tuple[Operand, Operand]
    threshold: float
    value: Operand
    level: float
    slack: float = Field(0.0, description="values this near to the level agree with either side")


Check = Annotated[Compare | Best | Trend | Consistent, Field(discriminator="check")]


class Claim(Strict):
    """A statement of the paper, and the checks that decide it."""

    statement: str = Field(description="what the paper claims, in our own words")
    where: str = Field(description="section, table or figure of the paper")
    checks: list[Check] = Field(description="it holds when all hold")


class Deviation(Strict):
    """A place where the paper is silent, ambiguous or not followed."""

    topic: str
    choice: str
    alternatives: str = ""


class About(Strict):
    """`config/studies/<study>/study.yaml`: what the paper is, and names for lists of its models."""

    title: str
    reference: str = Field(description="authors, venue, year")
    groups: dict[Id, list[str]] = Field({}, description="ids of models, and $name of groups above; used as $name")


class Models(Strict):
    """`config/studies/<study>/models.yaml`."""

    baselines: dict[Id, Baseline] = {}
    models: dict[Id, Defended] = {}


class Attacks(Strict):
    """`config/studies/<study>/attacks.yaml`."""

    attacks: dict[Id, Attack] = {}
    evaluations: list[Evaluation] = []


class Artifacts(Strict):
    """`config/studies/<study>/artifacts.yaml`."""

    artifacts: dict[Id, Artifact] = {}


class Claims(Strict):
    """`config/studies/<study>/claims.yaml`."""

    claims: dict[Id, Claim] = {}


class Ledger(Strict):
    """`config/studies/<study>/ledger.yaml`."""

    deviations: list[Deviation] = []


class Study(About, Models, Attacks, Artifacts, Claims, Ledger):
    """Everything about one paper: all files of its folder."""


PARTS: dict[str, type[Strict]] = {
    "study": About,
    "models": Models,
    "attacks": Attacks,
    "artifacts": Artifacts,
    "claims": Claims,
    "ledger": Ledger,
}
"""The files of a study's folder, by their names without `.yaml`."""


class Override(Strict):
    """A change of some models or attacks of a study at one scale."""

    models: list[str] = Field([], description="ids or patterns with * of the models that are changed")
    attacks: list[str] = Field([], description="ids or patterns with * of the attacks that are changed")
    set: dict[str, Any] = Field(
        description="keys of the entry and their values; mappings are merged, those by number (drops) replaced"
    )
    why: str = Field(description="shown in the report")


class Cut(Strict):
    """Models that a scale leaves out."""

    models: list[str] = Field(description="ids or patterns with *")
    why: str = Field(description="reason given in place of their results")


class Changes(Strict):
    """`config/scales/<scale>/<study>.yaml`: what a scale changes in one study; without the file, nothing."""

    overrides: list[Override] = []
    cuts: list[Cut] = []


class Scale(Strict):
    """`config/scales/<scale>.yaml`: how much is run; an experiment's meaning never changes with it."""

    stamp: str = Field(description="shown on every artifact")
    comparable: bool = Field(description="whether numbers may be set against the paper's")
    threads: Count = Field(description="cores of one training or attack job")
    stand_ins: dict[str, str] = Field({}, description="dataset: dataset used in its place")
    networks: dict[str, Method] = Field({}, description="network: network used in its place")


ROOTS: dict[str, type[Strict]] = {"config": Config, "scale": Scale, "changes": Changes, **PARTS}
