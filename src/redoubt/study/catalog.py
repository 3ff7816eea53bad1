"""Everything that exists: typed config to models, attacks, evaluations, artifacts and claims; their ids and paths.

Nothing here imports torch: the workflow builds this while it builds its graph.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from redoubt import registry
from redoubt.data import sources
from redoubt.errors import RedoubtError
from redoubt.files import canonical_json
from redoubt.graph import code as imports
from redoubt.layout import attack_file, data_folder, model_file, published_file, scale_file, study_file
from redoubt.study.config import Artifact, Attack, Claim, Config, Defended, Method, Scale, Study
from redoubt.study.needs import Model, Need, Run
from redoubt.study.reading import check_plain, merged, named, read_yaml, typed


def matches(name: str, patterns: list[str]) -> bool:
    """Tell whether `name` matches one of `patterns` (with *)."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@dataclass
class Catalog:
    """All studies at one scale."""

    config: Config
    scale: Scale
    studies: dict[str, Study]
    root: Path = field(default_factory=Path)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    # -- models -------------------------------------------------------------------------------------------------------

    @cached_property
    def models(self) -> dict[str, Model]:
        """All models, starts before what is made from them."""
        result: dict[str, Model] = {}
        for name, study in self.studies.items():
            file = study_file(name)
            for key, raw in [*study.baselines.items(), *study.models.items()]:
                where = f"{file}: {'baselines' if key in study.baselines else 'models'}.{key}"
                if key in result:
                    raise RedoubtError(f"{where}: this id is taken by a model of study {result[key].study}")
                entry = self._changed(key, raw, "models", where)
                if isinstance(entry, Defended) and (problem := entry.problem()) is not None:
                    raise RedoubtError(f"{where}: {problem}")
                start = getattr(entry, "start", None)
                if start is not None and start not in result:
                    raise RedoubtError(f"{where}.start: {start!r} is not a model above it")
                result[key] = self._model(key, name, entry, result.get(start), where)
        return result

    def _changed(self, key: str, raw: Any, kind: str, where: str) -> Any:
        for override in self.scale.overrides:
            if matches(key, getattr(override, kind)):
                value = merged(raw.model_dump(by_alias=True, exclude_unset=True), override.set)
                raw = typed(type(raw), value, f"{where} (as changed by {scale_file(self.config.scale)})")
        return raw

    def _model(self, key: str, study: str, raw: Any, start: Model | None, where: str) -> Model:
        if start is None:
            dataset = self.scale.stand_ins.get(raw.dataset, raw.dataset)
            if dataset not in sources.SOURCES:
                place = self._place("stand_ins", raw.dataset) or f"{where}.dataset"
                raise RedoubtError(f"{place}: {dataset!r} is not one of {', '.join(sources.SOURCES)}")
            place = self._place("networks", named(raw.network)["name"]) or f"{where}.network"
            network = self._checked("networks", self._network(raw.network), place)
            preprocessing = self._checked(
                "preprocessing", named(raw.preprocessing or "identity"), f"{where}.preprocessing"
            )
        else:
            dataset, network, preprocessing = (start.entry[k] for k in ("dataset", "network", "preprocessing"))
        defended = isinstance(raw, Defended)
        entry = {
            "id": key,
            "dataset": dataset,
            "network": network,
            "preprocessing": preprocessing,
            "defense": self._defense(raw, network, start, where) if defended else {"name": "clean", "parameters": {}},
            "training": raw.training.model_dump(by_alias=True),
            "start": start.id if start else None,
        }
        labels = {**(start.labels if start else {}), **raw.labels}
        missing, step = self._missing(key, dataset, start), "defend" if defended else "pretrain"
        return Model(key, study, entry, labels, tuple(raw.seeds), entry["start"], missing, step)

    def _defense(self, raw: Defended, network: dict[str, Any], start: Model | None, where: str) -> dict[str, Any]:
        """Return the defense of an entry; one that changes the network or is random says so, for later steps."""
        result = self._checked("defenses", {"name": raw.defense, "parameters": raw.parameters}, where, "defense")
        declared = registry.method("defenses", raw.defense).DECLARES
        if declared.networks is not None and network["name"] not in declared.networks:
            raise RedoubtError(f"{where}.defense: {raw.defense} fits {', '.join(declared.networks)} only")
        if start is None and declared.pretrained:
            raise RedoubtError(f"{where}.start: this key is required; {raw.defense} starts from another model")
        before = start.entry["defense"] if start is not None else {}
        if before.get("changes") and before["name"] != raw.defense:
            raise RedoubtError(
                f"{where}.start: {start.id!r} has a network that {before['name']} has changed; "
                f"{raw.defense} cannot go on from that"
            )
        return result | {flag: True for flag in ("changes", "random") if getattr(declared, flag)}

    def _network(self, method: Method) -> dict[str, Any]:
        given = named(method)
        substitute = self.scale.networks.get(given["name"])
        return given if substitute is None else merged(given if _same(substitute, given) else {}, named(substitute))

    def _place(self, key: str, name: str) -> str | None:
        """Return where the scale puts something else in the place of `name`, None where it does not."""
        return f"{scale_file(self.config.scale)}: {key}.{name}" if name in getattr(self.scale, key) else None

    def _checked(self, kind: str, method: dict[str, Any], where: str, key: str = "") -> dict[str, Any]:
        where_name = f"{where}.{key}" if key else where
        try:
            registry.method(kind, method["name"])
        except RedoubtError as error:
            raise RedoubtError(f"{where_name}: {error}") from None
        where_parameters = f"{where}.parameters" if key else where
        try:
            checked = registry.parameters(kind, method["name"], method["parameters"])
        except RedoubtError as error:
            raise RedoubtError(f"{where_parameters}.{error}") from None
        return {"name": method["name"], "parameters": checked.model_dump(by_alias=True)}

    def _missing(self, key: str, dataset: str, start: Model | None) -> str | None:
        for cut in self.scale.cuts:
            if matches(key, cut.models):
                return cut.why
        if start is not None:
            return start.missing
        return sources.unavailable(dataset, self.mirrors, self.config.data.imagenet, self.root / data_folder(dataset))

    @cached_property
    def mirrors(self) -> list[str]:
        """Data mirrors in the order in which they are tried."""
        return sources.mirrors(list(self.config.data.mirrors), self.environment)

    @property
    def gpus(self) -> int:
        """GPUs that a training or attack job takes: one where torch will use one, none otherwise."""
        device = self.config.device
        return int(device == "cuda" or (device == "auto" and Path("/dev/nvidia0").exists()))

    # -- attacks and evaluations --------------------------------------------------------------------------------------

    @cached_property
    def attacks(self) -> dict[str, dict[str, Any]]:
        """Entries of all attacks, as the attack step reads them."""
        result: dict[str, dict[str, Any]] = {}
        for name, study in self.studies.items():
            for key, raw in study.attacks.items():
                where = f"{study_file(name)}: attacks.{key}"
                if key in result:
                    raise RedoubtError(f"{where}: this id is taken by another study")
                result[key] = self._attack(key, self._changed(key, raw, "attacks", where), where)
        return result

    def _attack(self, key: str, raw: Attack, where: str) -> dict[str, Any]:
        checked = self._checked("attacks", {"name": raw.attack, "parameters": raw.parameters}, where, "attack")
        if raw.engine not in (engines := registry.method("attacks", raw.attack).ENGINES):
            raise RedoubtError(f"{where}.engine: {raw.attack} runs on {', '.join(engines)} only")
        entry = raw.model_dump(by_alias=True)
        return {**entry, "id": key, "parameters": checked["parameters"]}

    @cached_property
    def runs(self) -> dict[tuple[str, str], Run]:
        """All evaluations, one for each model and attack."""
        result: dict[tuple[str, str], Run] = {}
        for name, study in self.studies.items():
            for number, raw in enumerate(study.evaluations):
                where = f"{study_file(name)}: evaluations.{number}"
                self._known(raw.attack, self.attacks, f"{where}.attack")
                for source in raw.reads:
                    self._known(source.model, self.models, f"{where}.reads.model")
                    self._known(source.attack, self.attacks, f"{where}.reads.attack")
                    of, by = (self.attacks[key]["space"] for key in (source.attack, raw.attack))
                    if of != by:
                        raise RedoubtError(
                            f"{where}.reads.attack: {source.attack!r} is in space {of}, {raw.attack!r} in space {by}"
                        )
                own = [*study.baselines, *study.models]
                for pattern in raw.models:
                    if not (found := [key for key in own if fnmatchcase(key, pattern)]):
                        raise RedoubtError(f"{where}.models: {pattern!r} matches no model of this study")
                    for model in found:
                        reads = tuple((source.model, source.attack) for source in raw.reads)
                        self._possible(reads, result, f"{where}.reads")
                        result[model, raw.attack] = Run(model, raw.attack, reads)
        return result

    @staticmethod
    def _possible(reads: tuple[tuple[str, str], ...], known: Mapping, where: str) -> None:
        for model, attack in reads:
            if (model, attack) not in known:
                raise RedoubtError(f"{where}: no evaluation above runs attack {attack!r} on {model!r}")

    @staticmethod
    def _known(key: str, known: Mapping, where: str) -> None:
        if key not in known:
            raise RedoubtError(f"{where}: {key!r} is not one of {', '.join(known)}")

    def missing(self, need: Need) -> str | None:
        """Return why something that an artifact reads cannot be had here, or None."""
        if (reason := self.models[need.model].missing) is not None or need.attack is None:
            return reason
        for model, attack in self.runs[need.model, need.attack].reads:
            if (reason := self.missing(Need(model, attack))) is not None:
                return reason
        return None

    # -- artifacts and claims -----------------------------------------------------------------------------------------

    @cached_property
    def artifacts(self) -> dict[tuple[str, str], Artifact]:
        """All tables and figures by study and id, in the order of the config."""
        result = {}
        for name, study in self.studies.items():
            for key, raw in study.artifacts.items():
                where = f"{study_file(name)}: artifacts.{key}"
                checked = self._checked("artifacts", {"name": raw.plot, "parameters": raw.parameters}, where, "plot")
                result[name, key] = raw.model_copy(update={"parameters": checked["parameters"]})
                options = registry.parameters("artifacts", raw.plot, raw.parameters)
                for need in registry.method("artifacts", raw.plot).needs(options):
                    self._known(need.model, self.models, f"{where}.parameters")
                    if need.attack is not None and (need.model, need.attack) not in self.runs:
                        raise RedoubtError(f"{where}: no evaluation runs attack {need.attack!r} on {need.model!r}")
        return result

    def needs(self, study: str, artifact: str) -> list[Need]:
        """Return what an artifact reads, each once."""
        raw = self.artifacts[study, artifact]
        options = registry.parameters("artifacts", raw.plot, raw.parameters)
        return list(dict.fromkeys(registry.method("artifacts", raw.plot).needs(options)))

    @cached_property
    def claims(self) -> dict[tuple[str, str], Claim]:
        """All claims by study and id."""
        result = {}
        for name, study in self.studies.items():
            for key, claim in study.claims.items():
                for artifact in _artifacts_of(claim):
                    self._known(artifact, study.artifacts, f"{study_file(name)}: claims.{key}: artifact")
                result[name, key] = claim
        return result

    def check(self) -> Catalog:
        """Look at every entry once, so that a mistake is told before any job starts; return the catalog."""
        for part in (self.models, self.attacks, self.runs, self.artifacts, self.claims, self.mirrors):
            len(part)
        return self

    # -- what steps read ----------------------------------------------------------------------------------------------

    def model_code(self, model: str) -> list[str]:
        """Return the source files that training a model reads, relative to the root."""
        entry, step = self.models[model].entry, self.models[model].step
        return self._code(f"steps.{step}", f"defenses.{_module(entry['defense'])}", *_model_modules(entry))

    def attack_code(self, model: str, attack: str) -> list[str]:
        """Return the source files that an attack on a model reads, relative to the root."""
        method = self.attacks[attack]["attack"].replace("-", "_")
        return self._code("steps.attack", f"attacks.{method}", *_model_modules(self.models[model].entry))

    def artifact_code(self, study: str, artifact: str) -> list[str]:
        """Return the source files that drawing an artifact reads, relative to the root."""
        raw = self.artifacts[study, artifact]
        module = registry.method("artifacts", raw.plot)
        options = registry.parameters("artifacts", raw.plot, raw.parameters)
        metrics = getattr(module, "metrics", lambda _: ())(options)
        return self._code(
            f"steps.{raw.kind}",
            f"artifacts.{raw.plot.replace('-', '_')}",
            *(f"metrics.{metric.replace('-', '_')}" for metric in metrics),
        )

    def report_code(self) -> list[str]:
        """Return the source files that the report reads, relative to the root: the metrics of all artifacts too."""
        drawn = {file for study, key in self.artifacts for file in self.artifact_code(study, key)}
        return sorted({*self._code("steps.report"), *(file for file in drawn if "/metrics/" in file)})

    def code(self, *modules: str) -> list[str]:
        """Return the source files of some modules of the package and all that they import, relative to the root."""
        return self._code(*modules)

    def _code(self, *modules: str) -> list[str]:
        files = imports.closure(*(f"redoubt.{module}" for module in modules))
        return [f"src/{file.relative_to(imports.SOURCE).as_posix()}" for file in files]

    def artifact_entry(self, study: str, artifact: str) -> dict[str, Any]:
        """Return what the step of an artifact reads: the entry, labels and reasons, and where its inputs lie."""
        raw = self.artifacts[study, artifact]
        needs = self.needs(study, artifact)
        return {
            **raw.model_dump(by_alias=True),
            "study": study,
            "id": artifact,
            "scale": self.config.scale,
            "published": published_file(study),
            "stamp": self.scale.stamp,
            "comparable": self.scale.comparable,
            "verdict": self.config.verdict.model_dump(),
            "models": {need.model: self._shown(need.model) for need in needs},
            "inputs": [
                {
                    "model": need.model,
                    "attack": need.attack,
                    "missing": self.missing(need),
                    "files": self.files_of(need),
                }
                for need in needs
            ],
        }

    def claims_hash(self) -> str:
        """Return a digest of what the scorecard reads of the config: all artifacts, and claims with their checks."""
        claims = {f"{study}/{key}": claim.model_dump() for (study, key), claim in self.claims.items()}
        return entry_hash([claims, [list(key) for key in self.artifacts]])

    @property
    def report_files(self) -> list[str]:
        """Template, style and script of the report page, relative to the root."""
        return [
            f"src/redoubt/report/templates/{file.name}"
            for file in sorted((imports.SOURCE / "redoubt/report/templates").iterdir())
        ]

    def report_entry(self) -> dict[str, Any]:
        """Return what the report reads: artifacts, claims without their checks, deviations, and the scale's cuts."""
        studies = {}
        for name, study in self.studies.items():
            artifacts = [
                {"id": key, "kind": raw.kind, "title": raw.title, "caption": raw.caption, "plot": raw.plot}
                for key, raw in study.artifacts.items()
            ]
            studies[name] = {
                "title": study.title,
                "reference": study.reference,
                "published": published_file(name),
                "artifacts": artifacts,
                "claims": {
                    key: {"statement": claim.statement, "where": claim.where} for key, claim in study.claims.items()
                },
                "deviations": [deviation.model_dump() for deviation in study.deviations],
            }
        return {
            "scale": self.config.scale,
            "stamp": self.scale.stamp,
            "comparable": self.scale.comparable,
            "verdict": self.config.verdict.model_dump(),
            "stand_ins": self.scale.stand_ins,
            "changes": [override.why for override in self.scale.overrides] + [cut.why for cut in self.scale.cuts],
            "missing": sorted({model.missing for model in self.models.values() if model.missing}),
            "studies": studies,
        }

    def _shown(self, model: str) -> dict[str, Any]:
        spec = self.models[model]
        defense = spec.entry["defense"]
        return {"labels": spec.labels, "dataset": spec.dataset, "defense": defense, "start": spec.start}

    def files_of(self, need: Need) -> list[str]:
        """Return the files of a need, one for each seed."""
        if need.attack is None:
            return [
                model_file(self.config.scale, need.model, seed, "history.csv") for seed in self.models[need.model].seeds
            ]
        return [attack_file(self.config.scale, need.model, seed, need.attack) for seed in self.models[need.model].seeds]


def _same(substitute: Method, given: dict[str, Any]) -> bool:
    return named(substitute)["name"] == given["name"]


def _module(method: dict[str, Any]) -> str:
    return method["name"].replace("-", "_")


def _model_modules(entry: dict[str, Any]) -> list[str]:
    """Return the modules that build a model: its defense's too where that changes the network."""
    result = [f"networks.{_module(entry['network'])}", f"preprocessing.{_module(entry['preprocessing'])}"]
    return [*result, f"defenses.{_module(entry['defense'])}"] if entry["defense"].get("changes") else result


def _artifacts_of(claim: Claim) -> Iterator[str]:
    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, Mapping):
            if isinstance(value.get("artifact"), str):
                yield value["artifact"]
            for part in value.values():
                yield from walk(part)
        elif isinstance(value, list | tuple):
            for part in value:
                yield from walk(part)

    return walk(claim.model_dump())


# -- loading -----------------------------------------------------------------------------------------------------------


def entry_hash(entry: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of an entry's canonical JSON."""
    return hashlib.sha256(canonical_json(entry).encode()).hexdigest()[:16]


def load(
    root: Path | str = ".", changes: Mapping[str, Any] | None = None, environment: Mapping | None = None
) -> Catalog:
    """Read and check all config files.

    Args:
        root: folder of the repository.
        changes: keys of `config/config.yaml` and their values, as `--config` gives them.
        environment: environment variables; those of the process when None.

    Raises:
        RedoubtError: one line that names file, key and what was expected.
    """
    root = Path(root)
    file = "config/config.yaml"
    given = read_yaml(root, file) or {}
    if isinstance(given, Mapping):
        given = merged(given, changes or {})
    check_plain(given, file)
    config = typed(Config, given, file)
    file = scale_file(config.scale)
    scale = typed(Scale, read_yaml(root, file), file)
    studies = {}
    for name in config.studies:
        if not (root / study_file(name)).is_file():
            raise RedoubtError(f"config/config.yaml: studies: {name!r}: there is no {study_file(name)}")
        studies[name] = typed(Study, read_yaml(root, study_file(name)), study_file(name))
    return Catalog(config, scale, studies, root, os.environ if environment is None else environment).check()
