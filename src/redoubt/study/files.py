"""All config files that take part, read and typed, before anything is resolved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from redoubt import registry
from redoubt.data import sources as sources_of_data
from redoubt.errors import RedoubtError
from redoubt.layout import CONFIG, LOOKS, SUITES, changes_file, scale_file, study_file
from redoubt.records import Strict, typed
from redoubt.study import suites
from redoubt.study.config import PARTS, About, Changes, Config, Looks, Models, Scale, Study, Suites
from redoubt.study.expand import LISTS, expanded, resolved, with_groups
from redoubt.study.outside import Outside, as_written, settled
from redoubt.study.reading import check_plain, known, merged, read_yaml


def matches(name: str, patterns: list[str]) -> bool:
    """Tell whether `name` matches one of `patterns` (with *)."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@dataclass
class Files:
    """The config: all studies at one scale."""

    config: Config
    scale: Scale
    studies: dict[str, Study]
    changes: dict[str, Changes] = field(default_factory=dict)
    looks: Looks = field(default_factory=Looks)
    root: Path = field(default_factory=Path)
    results: Path | None = None  # folder that `results/` lies in, where that is not `root`
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    sources: Path = field(default_factory=Path)  # `root`, or the copy of its sources that holds files of users too
    outside: Outside = field(default_factory=Outside)

    def changed(self, study: str, key: str, raw: Any, kind: str, where: str) -> Any:
        """Return one of the `models` or `attacks` (`kind`) of a study as the scale changes it."""
        for override in self.changes[study].overrides:
            if matches(key, getattr(override, kind)):
                value = merged(raw.model_dump(by_alias=True, exclude_unset=True), override.set)
                raw = typed(type(raw), value, f"{where} (as changed by {changes_file(self.config.scale, study)})")
        return raw

    def cut(self, study: str, model: str, attack: str | None = None) -> str | None:
        """Return why the scale leaves out a model, or an attack on it; None where it does not."""
        for cut in self.changes[study].cuts:
            if matches(model, cut.models) and (matches(attack, cut.attacks) if attack else not cut.attacks):
                return cut.why
        return None


def read_study(root: Path, name: str) -> Study:
    """Read the files of a study's folder below `root`; one that is absent, beside study.yaml, has no entries.

    Raises:
        RedoubtError: one line that names file, key and what was expected.
    """
    places = {part: study_file(name, part) for part in PARTS}
    for path in sorted((root / places["study"]).parent.glob("*.yaml")):
        if path.stem not in PARTS:
            files = ", ".join(f"{part}.yaml" for part in PARTS)
            raise RedoubtError(f"{path.relative_to(root).as_posix()}: no file of a study; these are {files}")
    values = {part: read_yaml(root, place) if (root / place).is_file() else {} for part, place in places.items()}
    about = typed(About, values.pop("study"), places["study"])
    lists = values["artifacts"].get(LISTS) if isinstance(values["artifacts"], Mapping) else None
    if both := [name for name in about.groups if isinstance(lists, Mapping) and name in lists]:
        raise RedoubtError(f"{places['artifacts']}: {LISTS}.{both[0]}: study.yaml has a group of this name")
    values = {part: expanded(part, value, places[part]) for part, value in values.items()}
    models = typed(Models, values.pop("models"), places["models"])
    groups = resolved(about.groups, [*models.baselines, *models.models], f"{places['study']}: groups")
    parts: list[Strict] = [about, models]
    for part, value in values.items():
        parts.append(typed(PARTS[part], with_groups(value, groups, f"{places[part]}: "), places[part]))
    return Study(**{key: value for part in parts for key, value in part})


def read_suites(root: Path) -> Suites:
    """Read the suites of strong attacks below `root`; none where the file is absent.

    Raises:
        RedoubtError: one line that names file, key and what was expected.
    """
    found = typed(Suites, read_yaml(root, SUITES), SUITES) if (root / SUITES).is_file() else Suites()
    suites.check(found)
    return found


def _check_patterns(scale: str, name: str, study: Study, changes: Changes) -> None:
    """Refuse a pattern of a scale that matches nothing in its study."""
    ids = {"models": [*study.baselines, *study.models], "attacks": list(study.attacks)}
    for kind, items in (("overrides", changes.overrides), ("cuts", changes.cuts)):
        for number, item in enumerate(items):
            for key in ids:
                for pattern in getattr(item, key, []):
                    if not any(fnmatchcase(own, pattern) for own in ids[key]):
                        where = f"{changes_file(scale, name)}: {kind}.{number}.{key}"
                        raise RedoubtError(f"{where}: {pattern!r} matches none of the {key} of {name}")


def asked(root: Path, changes: Mapping[str, Any]) -> Config:
    """Return `config/config.yaml` with `changes` of its keys.

    Raises:
        RedoubtError: one line that names file, key and what was expected.
    """
    given = read_yaml(root, CONFIG) or {}
    if isinstance(given, Mapping):
        given = merged(given, changes)
    check_plain(given, CONFIG)
    return typed(Config, given, CONFIG)


def read(root: Path, changes: Mapping[str, Any], environment: Mapping[str, str], results: Path | None) -> Files:
    """Read all config files; `changes` are keys of `config/config.yaml` and their values.

    Raises:
        RedoubtError: one line that names file, key and what was expected.
    """
    config = asked(root, changes)
    sources, found = settled(root, config, changes)
    config = config.model_copy(update={"studies": [found.ids.get(study, study) for study in config.studies]})
    try:
        return _read(root, sources, config, environment, results, found)
    except RedoubtError as error:
        raise RedoubtError(as_written(str(error), sources)) from None


def _read(
    root: Path, sources: Path, config: Config, environment: Mapping[str, str], results: Path | None, found: Outside
) -> Files:
    for name, folder in config.data.folders.items():
        if sources_of_data.SOURCES.get(name, None) is not None and sources_of_data.SOURCES[name].layout != "folder":
            raise RedoubtError(f"{CONFIG}: data.folders.{name}: there is a dataset of this name; rename it")
        shape = (folder.channels, folder.height, folder.width)
        sources_of_data.SOURCES[name] = sources_of_data.pictures(name, folder.path, shape)
    if found.homes or found.origins:
        registry.add(sources / "src")
    known(config.scale, sorted(path.stem for path in (sources / "config/scales").glob("*.yaml")), f"{CONFIG}: scale")
    scale = typed(Scale, read_yaml(sources, scale_file(config.scale)), scale_file(config.scale))
    studies, own, shared = {}, {}, read_suites(sources)
    for name in config.studies:
        if not (sources / study_file(name, "study")).is_file():
            raise RedoubtError(f"{CONFIG}: studies: {name!r}: there is no {study_file(name, 'study')}")
        studies[name] = read_study(sources, name)
        place = changes_file(config.scale, name)
        own[name] = typed(Changes, read_yaml(sources, place), place) if (sources / place).is_file() else Changes()
        studies[name] = suites.with_suites(name, studies[name], shared, own[name].adaptive)
        _check_patterns(config.scale, name, studies[name], own[name])
    looks = typed(Looks, read_yaml(sources, LOOKS), LOOKS) if (sources / LOOKS).is_file() else Looks()
    return Files(config, scale, studies, own, looks, root, results, environment, sources, found)
