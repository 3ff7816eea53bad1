"""Models of all studies: what is asked in YAML, resolved to what training is given."""

from __future__ import annotations

from typing import Any

from redoubt import registry
from redoubt.data import sources
from redoubt.errors import RedoubtError
from redoubt.layout import data_folder, scale_file, study_file
from redoubt.study import outside
from redoubt.study.config import Baseline, Defended
from redoubt.study.entries.model import ModelEntry, Training
from redoubt.study.files import Files
from redoubt.study.needs import Model
from redoubt.study.reading import checked, known, merged, named, spelt


def models(files: Files, mirrors: list[str]) -> dict[str, Model]:
    """Return all models, starts before what is made from them."""
    result: dict[str, Model] = {}
    for name, study in files.studies.items():
        for key, raw in [*study.baselines.items(), *study.models.items()]:
            where = f"{study_file(name, 'models')}: {'baselines' if key in study.baselines else 'models'}.{key}"
            if key in result:
                raise RedoubtError(f"{where}: this id is taken by a model of study {result[key].study}")
            asked: Baseline | Defended = files.changed(name, key, raw, "models", where)
            if (problem := _late_drop(raw.schedule) or asked.problem()) is not None:
                raise RedoubtError(f"{where}: {problem}")
            start = getattr(asked, "start", None)
            if start is not None and start not in result:
                raise RedoubtError(f"{where}.start: {start!r} is not a model above it")
            result[key] = _model(files, mirrors, key, name, asked, result.get(start) if start else None, where)
    return result


def _late_drop(own: Training) -> str | None:
    """Return which drop of a study's own schedule never comes; a scale may cut the schedule before it."""
    late = [epoch for epoch in own.drops if 0 < own.epochs <= epoch]
    return f"training.drops: {late[0]:g} is not before the end, epochs: {own.epochs:g}" if late else None


def _model(
    files: Files, mirrors: list[str], key: str, study: str, raw: Baseline | Defended, start: Model | None, where: str
) -> Model:
    dataset, network, preprocessing = _inherited(start) if start else _from_scratch(files, study, raw, where)
    given = outside.weights(files.outside.homes[study], raw.weights, where) if raw.weights is not None else None
    defense = _defense(raw, network["name"], start, where) if isinstance(raw, Defended) else {"name": "clean"}
    entry = {
        "id": key,
        "dataset": dataset,
        "network": network,
        "preprocessing": preprocessing,
        "defense": defense,
        "training": _probed(raw.schedule, where),
        "start": start.id if start else None,
        "weights": given[1] if given else None,
    }
    labels = {**(start.labels if start else {}), **raw.labels}
    missing = files.cut(study, key) or (start.missing if start else _unavailable(files, mirrors, dataset))
    step = "defend" if isinstance(raw, Defended) else "pretrain"
    made = ModelEntry.parse(entry, where)
    return Model(key, study, made, labels, tuple(raw.seeds), made.start, missing, step, given[0] if given else None)


def _inherited(start: Model) -> tuple[str, dict[str, Any], dict[str, Any]]:
    entry = start.entry
    return entry.dataset, entry.network.model_dump(), entry.preprocessing.model_dump()


def _from_scratch(
    files: Files, study: str, raw: Baseline | Defended, where: str
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return dataset, network and preprocessing of a model that starts from nothing, with what the scale puts in."""
    scale, file = files.scale, scale_file(files.config.scale)
    given, network = str(raw.dataset), raw.network or ""
    dataset = scale.stand_ins.get(given, given)
    place = f"{file}: stand_ins.{given}" if given in scale.stand_ins else f"{where}.dataset"
    known(dataset, sources.SOURCES, place)
    name, parameters = named(network)
    place = f"{where}.network"
    if raw.module is not None:
        name, place = "own", f"{where}.module"
        module = outside.importable(study, raw.module, files.sources, place)
        parameters = {"module": module, "arguments": raw.arguments}
    if name in scale.networks:
        place = f"{file}: networks.{name}"
        other, changes = named(scale.networks[name])
        name, parameters = other, merged(parameters if other == name else {}, changes)
    found = spelt(name, checked("networks", name, parameters, place, place))
    place = f"{where}.preprocessing"
    name, parameters = named(raw.preprocessing or "identity")
    return dataset, found, spelt(name, checked("preprocessing", name, parameters, place, place))


def _defense(raw: Defended, network: str, start: Model | None, where: str) -> dict[str, Any]:
    """Return the defense of an entry; one that changes the network or is random says so, for later steps."""
    options = checked("defenses", raw.defense, raw.parameters, f"{where}.defense", f"{where}.parameters")
    declared = registry.method("defenses", raw.defense).DECLARES
    if declared.networks is not None and network not in declared.networks:
        raise RedoubtError(f"{where}.defense: {raw.defense} fits {', '.join(declared.networks)} only")
    if start is None and raw.weights is None and declared.pretrained:
        raise RedoubtError(f"{where}.start: this key is required; {raw.defense} starts from another model")
    if start is not None and (before := start.entry.defense).changes and before.name != raw.defense:
        raise RedoubtError(
            f"{where}.start: {start.id!r} has a network that {before.name} has changed; "
            f"{raw.defense} cannot go on from that"
        )
    flags: dict[str, Any] = {"changes": True} if declared.changes else {}
    return spelt(raw.defense, options) | flags | ({"draws": declared.draws} if declared.draws != "never" else {})


def _probed(training: Training, where: str) -> dict[str, Any]:
    """Return a schedule whose probes exist and have their parameters checked."""
    probes = []
    for number, probe in enumerate(training.probes):
        place = f"{where}.training.probes.{number}"
        options = checked("probes", probe.probe, probe.parameters, f"{place}.probe", f"{place}.parameters")
        if not hasattr(registry.method("probes", probe.probe), "measure"):
            raise RedoubtError(f"{place}.probe: {probe.probe} is a probe of a finished model; ask for it in attacks")
        probes.append(probe.model_copy(update={"parameters": spelt(probe.probe, options)["parameters"]}))
    return training.model_copy(update={"probes": probes}).model_dump(by_alias=True)


def _unavailable(files: Files, mirrors: list[str], dataset: str) -> str | None:
    """Return why a dataset is not available here, or None."""
    published = (files.results or files.root) / data_folder(dataset)
    return sources.unavailable(dataset, mirrors, files.config.data.imagenet, published)
