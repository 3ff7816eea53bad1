"""The shape of every config file, as typed records; `workflow/schemas/` holds their JSON schemas."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from redoubt.records import Count, Strict
from redoubt.study.entries import adaptive as strong
from redoubt.study.entries.artifact import Declared, Look, Verdict
from redoubt.study.entries.attack import Attack
from redoubt.study.own import Method, Own, Pictures

Id = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]+(-[a-z0-9.]+)*$", max_length=100, description="lower case, fields joined by hyphens"),
]
STUDY_ID = r"[a-z0-9]+([-_][a-z0-9]+)*"
StudyId = Annotated[str, Field(pattern=rf"^({STUDY_ID}|.*[/.].*)$", max_length=4000)]
"""Id of a study, or the path of one that lies elsewhere, which has a slash or ends with .yaml."""


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is given twice")
    return seeds


Seeds = Annotated[
    list[Annotated[int, Field(ge=0)]],
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_distinct),
]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


OneOrMore = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class Data(Strict):
    """Where datasets come from."""

    mirrors: list[str] = Field([], description="folders or https addresses in order, or `official`, which empty means")
    imagenet: str | None = Field(None, description="folder with train/ and val/, as torchvision's ImageFolder reads it")
    folders: dict[Id, Pictures] = Field({}, description="datasets of the user's, by name")


class Config(Strict):
    """`config/config.yaml`."""

    scale: Id = Field("demo", description="how much is run: a file of config/scales/")
    studies: list[StudyId] = Field(
        ["deepdefense"],
        description="folders of config/studies/ that take part; or paths of folders or files elsewhere, relative to "
        "config/, or to the working directory where they are given on the command line",
    )
    plugins: list[str] = Field(
        [], description="folders with methods in rooms such as defenses/ and attacks/; their paths as those of studies"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where torch computes; auto takes a GPU if there is one"
    )
    data: Data = Field(Data(), description="where datasets come from")
    verdict: Verdict = Field(Verdict(), description="the most that a margin of `reproduced` allows")


class Baseline(Own):
    """A model trained from scratch, or from the user's weights."""

    dataset: str = Field(description="name of a dataset")
    network: Method | None = Field(None, description="name of a network, or a mapping of its name and parameters")
    preprocessing: Method = Field("identity", description="first layer of the model: a name, or name and parameters")
    labels: dict[str, str] = Field({}, description="what tables and legends call it: dataset, network, method")
    seeds: Seeds = Field([0], description="one run for each")

    def problem(self) -> str | None:
        """Return what is wrong with the way in which the model comes to be, or None."""
        if self.network is None and self.module is None:
            return "network: this key is required, or module"
        return self.own_problem(self.network)


class Defended(Own):
    """A model that a defense makes: from another model, its `start`, or from scratch, as a baseline is made."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["start"]},
                {"required": ["dataset", "network"]},
                {"required": ["dataset", "module"]},
            ]
        }
    )

    start: Id | None = Field(None, description="model whose weights, network and preprocessing it starts from")
    dataset: str | None = Field(None, description="from scratch: name of a dataset")
    network: Method | None = Field(None, description="from scratch: a network, or a mapping of its name and parameters")
    preprocessing: Method | None = Field(
        None, description="from scratch: first layer of the model, a name, or name and parameters; identity when null"
    )
    defense: str = Field("clean", description="name of a defense")
    parameters: dict[str, Any] = Field({}, description="parameters of the defense")
    labels: dict[str, str] = Field({}, description="what tables and legends call it, over those of its start")
    seeds: Seeds = Field([0], description="one run for each, from the start's first seed")

    def problem(self) -> str | None:
        """Return what is wrong with the way in which the model comes to be, or None."""
        own = [key for key in ("module", "weights") if getattr(self, key) is not None]
        if self.start is not None and own:
            return f"{own[0]} and start are given; give one"
        if self.weights is None and "defense" not in self.model_fields_set:
            return "defense: this key is required, unless there are weights"
        given = [key for key in ("dataset", "network", "preprocessing") if getattr(self, key) is not None]
        if self.start is not None and given:
            return f"{given[0]} comes with the start; give start, or dataset and network"
        if self.start is None and (self.dataset is None or (self.network is None and self.module is None)):
            return "this model starts from nothing; give start, or dataset and network"
        return self.own_problem(self.network)


class Source(Strict):
    """Finished rows of another model that an evaluation builds on: of the same seed where that model declares it."""

    model: Id = Field(description="id of the other model")
    attack: Id = Field(description="id of an attack that an evaluation above runs on it")


class Evaluation(Strict):
    """An attack on some models."""

    attack: OneOrMore = Field(description="id of an attack, or of several")
    models: OneOrMore = Field(description="ids, patterns with *, or $name of a group")
    reads: list[Source] = Field([], description="rows that the attack builds on")
    crafted_on: Id | None = Field(
        None, description="model that the examples are made on, to be scored on `models`; the scored one when null"
    )
    missing: str | None = Field(None, description="why it is not run, if so")


class Suite(Strict):
    """A list of attacks that together answer what is left of a model, in `config/suites.yaml`."""

    by: Literal["wrong", "changed", "l2", "linf"] = Field(description="what the strongest result is, see worst-of")
    sweep: str | None = Field(None, description="column that all of its attacks sweep")
    whole: bool = Field(False, description="one attack for all images, as for universal perturbations")
    battery: Literal["linf", "l2"] | None = Field(None, description="norm: also all attacks of `redoubt.evaluate`")
    attacks: dict[Id, dict[str, Any]] = Field({}, description="keys of their entries, by name")
    wrappers: dict[Id, Id] = Field({}, description="which attack runs once more where DECLARES names the wrapper")
    without: dict[Id, str] = Field({}, description="wrappers that fit none of the attacks, and why")

    def entries(self) -> dict[str, dict[str, Any]]:
        """Return the keys of all attacks, by name."""
        return (strong.entries(self.battery) if self.battery else {}) | self.attacks


class Suites(Strict):
    """`config/suites.yaml`: strong attacks, the same for every study."""

    suites: dict[Id, Suite] = Field({}, description="by the name that `adaptive` of a study calls it")


class Answer(Strict):
    """A suite on some models, and the columns whose threat it answers."""

    suite: Id = Field(description="one of suites.yaml")
    models: OneOrMore = Field(description="ids, patterns with *, or $name of a group")
    set: dict[str, Any] = Field({}, description="keys over those of every attack of the suite, such as its epsilons")
    each: dict[Id, dict[str, Any]] = Field({}, description="keys over those of one attack of the suite, by its name")
    undefended: Id | None = Field(None, description="where the wrapper `transfer` makes its examples")
    level: float | None = Field(None, description="of worst-of: one size for all images, at which this share is wrong")
    also: list[Id] = Field([], description="attacks of the study whose finished rows count too, where there are any")
    columns: list[str] = Field([], description="artifact/column of tables, artifact/panel/measure of lines, with *")


class Artifact(Strict):
    """A table or a figure of the paper, or an extra one."""

    kind: Literal["table", "figure"] = Field(description="what the plot draws; follows from its name as a key")
    plot: str = Field(description="what draws it: a file of redoubt/artifacts; the same")
    title: str = Field(description="what it is called in the report")
    caption: str = Field(description="what it shows, in our own words")
    parameters: dict[str, Any] = Field({}, description="of the plot; a study has them under its name as a key")


Scalar = str | int | float
Values = dict[str, list[Scalar | list[Scalar]]]
"""Values by name; under several names, separated by spaces, lists of as many values that go together."""


class Check(Strict):
    """One check, or one for each combination of `each`; exactly one of `compare`, `best` and `trend` says what it asks.

    Numbers are written as addresses, `table-1[mnist-mlp-deepdefense, rho_2]`; `{name}` stands for a value of `each`.
    """

    compare: str | None = Field(
        None,
        description="NUMBER > FACTOR * NUMBER + OFFSET; or >=, <, <=; or NUMBER = NUMBER within 0.01, within 10 %",
    )
    best: str | None = Field(None, description="a number that is the highest among the same column of some rows")
    among: list[str] = Field([], description="for best: the rows")
    lowest: bool = Field(False, description="for best: the lowest in place of the highest")
    trend: str | None = Field(None, description="numbers of several rows, which rise or fall")
    over: str | None = Field(None, description="for trend: with which column")
    sign: Literal["rising", "falling"] | None = Field(None, description="for trend")
    each: Values = Field({}, description="values of {name}, by name: one check for each combination")
    some: Values = Field({}, description="for compare: values of {name}, by name: one of the combinations is asked for")

    @model_validator(mode="after")
    def _one_question(self) -> Check:
        asked = [name for name in ("compare", "best", "trend") if getattr(self, name) is not None]
        if len(asked) != 1:
            raise ValueError("give exactly one of compare, best, trend")
        belong = {"compare": ("some",), "best": ("among", "lowest"), "trend": ("over", "sign")}
        for kind, keys in belong.items():
            for key in keys:
                if kind != asked[0] and key in self.model_fields_set:
                    raise ValueError(f"{key} comes with {kind}")
                if kind == asked[0] and key not in ("lowest", "some") and not getattr(self, key):
                    raise ValueError(f"{kind} needs {key}")
        _check_values("each", self.each)
        _check_values("some", self.some)
        return self


def _check_values(key: str, given: Values) -> None:
    for name, values in given.items():
        if not values:
            raise ValueError(f"{key}.{name} has no values")
        count = len(name.split())
        for value in values:
            if (len(value) if isinstance(value, list) else 1) != count:
                raise ValueError(f"{key}.{name}: {value!r} is not {count} value{'s' if count > 1 else ''}")


class Claim(Strict):
    """A statement of the paper, and the checks that decide it."""

    title: Annotated[str, Field(max_length=70)] = Field("", description="the claim in a few words, for tables")
    statement: str = Field(description="what the paper claims, in our own words")
    where: str = Field(description="section, table or figure of the paper")
    open: str | None = Field(
        None, description="what the checks leave open, so that the claim is undecided where all of them hold"
    )
    opposite: Literal["equal", "margin"] = Field(
        "equal",
        description="the world in which it must not hold: all methods are equal; or, where it says that they do not "
        "differ, they differ by just what its checks allow",
    )
    checks: list[Check] = Field(description="it holds when all hold")


class Deviation(Strict):
    """A place where the paper is silent, ambiguous or not followed."""

    topic: str = Field(description="what it is about, in a few words")
    choice: str = Field(description="what is done here")
    alternatives: str = Field("", description="what else could be done")
    cells: list[str] = Field(
        [],
        description="cells of tables in which the paper is not followed, as artifact/row/column with *; "
        "the last parts may be left out",
    )

    def declared(self, artifact: str) -> list[Declared]:
        """Return what it declares of the cells of a table."""
        parts = [pattern.split("/", 2) for pattern in self.cells]
        return [
            Declared(topic=self.topic, **dict(zip(("row", "column"), places, strict=False)))
            for name, *places in parts
            if fnmatchcase(artifact, name)
        ]


class About(Strict):
    """`config/studies/<study>/study.yaml`: what the paper is, and names for lists of its models."""

    title: str = Field(description="of the paper")
    reference: str = Field(description="authors, venue, year")
    groups: dict[Id, list[str]] = Field({}, description="ids of models, patterns with *, $name of those above")


class Models(Strict):
    """`config/studies/<study>/models.yaml`."""

    baselines: dict[Id, Baseline] = Field({}, description="models that are trained from scratch")
    models: dict[Id, Defended] = Field({}, description="models that a defense makes")


class Attacks(Strict):
    """`config/studies/<study>/attacks.yaml`."""

    attacks: dict[Id, Attack] = Field({}, description="attacks, and probes of finished models")
    evaluations: list[Evaluation] = Field([], description="which of them run on which models")
    adaptive: dict[Id, Answer] = Field({}, description="strong attacks beside those of the paper, from suites.yaml")


class Artifacts(Strict):
    """`config/studies/<study>/artifacts.yaml`."""

    artifacts: dict[Id, Artifact] = Field({}, description="tables and figures")


class Claims(Strict):
    """`config/studies/<study>/claims.yaml`."""

    claims: dict[Id, Claim] = Field({}, description="statements of the paper, each with the checks that decide it")


class Ledger(Strict):
    """`config/studies/<study>/ledger.yaml`."""

    deviations: list[Deviation] = Field([], description="shown in the report")


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
    """Models that a scale leaves out, or attacks on them."""

    models: list[str] = Field(description="ids or patterns with *")
    attacks: list[str] = Field([], description="with these, ids or patterns with *, they alone are left out")
    why: str = Field(description="reason given in place of their results")


class Kept(Strict):
    """What a scale keeps of the suites that answer a study's columns."""

    models: list[str] = Field(description="ids or patterns with * of the models that are attacked")
    attacks: list[str] = Field(description="names of the attacks of suites, of wrappers, and of `also`, with *")
    why: str = Field(description="reason given in place of the results of others")


class Changes(Strict):
    """`config/scales/<scale>/<study>.yaml`: what a scale changes in one study; without the file, nothing."""

    overrides: list[Override] = Field([], description="keys of entries that change")
    cuts: list[Cut] = Field([], description="models that are left out, or attacks on them; their points read `not-run`")
    adaptive: Kept | None = Field(None, description="of the strong attacks only these are run")


class Looks(Strict):
    """`config/looks.yaml`: how figures draw methods."""

    methods: dict[str, Look] = Field({}, description="by the label `method` of models; others take one by themselves")


class Scale(Strict):
    """`config/scales/<scale>.yaml`: how much is run; an experiment's meaning never changes with it."""

    stamp: str = Field(description="shown on every artifact")
    comparable: bool = Field(description="whether numbers may be set against the paper's")
    threads: Count = Field(description="cores of one training or attack job")
    stand_ins: dict[str, str] = Field({}, description="dataset: dataset used in its place")
    networks: dict[str, Method] = Field({}, description="network: network used in its place")


ROOTS: dict[str, type[Strict]] = {
    "config": Config,
    "scale": Scale,
    "changes": Changes,
    "looks": Looks,
    "suites": Suites,
    **PARTS,
}
