"""Attacks and evaluations of all studies: which attack, or probe, runs on which models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.layout import study_file
from redoubt.study.config import Evaluation
from redoubt.study.entries.attack import Attack, AttackEntry
from redoubt.study.files import Files
from redoubt.study.needs import Model, Run
from redoubt.study.reading import checked, known, spelt
from redoubt.study.suites import Sweep, check_worst, matched

WORST = "worst-of"
"""The attack that takes, for every image, the worst of the finished rows that it reads."""


def attacks(files: Files) -> dict[str, AttackEntry]:
    """Return all attacks and probes of finished models, as the attack step reads them."""
    result: dict[str, AttackEntry] = {}
    for name, study in files.studies.items():
        for key, raw in study.attacks.items():
            where = f"{study_file(name, 'attacks')}: attacks.{key}"
            if key in result:
                raise RedoubtError(f"{where}: this id is taken by another study")
            result[key] = _attack(key, files.changed(name, key, raw, "attacks", where), where)
    return result


def _attack(key: str, raw: Attack, where: str) -> AttackEntry:
    kind, name = raw.method
    options = checked(kind, name, raw.parameters, f"{where}.{kind[:-1]}", f"{where}.parameters")
    method = registry.method(kind, name)
    if not hasattr(method, "ENGINES"):
        raise RedoubtError(f"{where}.probe: {name} is a probe of a training; ask for it in training.probes")
    if raw.engine not in method.ENGINES:
        raise RedoubtError(f"{where}.engine: {name} runs on {', '.join(method.ENGINES)} only")
    return AttackEntry(**{**dict(raw), "id": key, "parameters": spelt(name, options)["parameters"]})


def runs(files: Files, models: Mapping[str, Model], attacks: Mapping[str, AttackEntry]) -> dict[tuple[str, str], Run]:
    """Return all evaluations, one for each model and attack."""
    result: dict[tuple[str, str], Run] = {}
    for name, study in files.studies.items():
        own = [*study.baselines, *study.models]
        for number, raw in enumerate(study.evaluations):
            where = f"{study_file(name, 'attacks')}: evaluations.{number}"
            for attack in raw.attack:
                known(attack, attacks, f"{where}.attack")
                _check_reads(raw, models, attacks[attack], attacks, where)
                for model in matched(raw.models, own, f"{where}.models"):
                    run = _run(raw, model, attacks[attack], models, result, where)
                    run = result[model, attack] = replace(run, missing=run.missing or files.cut(name, model, attack))
                    if attacks[attack].attack == WORST:
                        swept = {read[1]: sweep(result[read], result, attacks) for read in run.reads}
                        check_worst(run, attacks, swept.__getitem__, where)
    return result


def _run(
    raw: Evaluation,
    model: str,
    attack: AttackEntry,
    models: Mapping[str, Model],
    above: Mapping[tuple[str, str], Run],
    where: str,
) -> Run:
    reads = tuple((source.model, source.attack) for source in raw.reads)
    for read in reads:
        if read not in above:
            raise RedoubtError(f"{where}.reads: no evaluation above runs attack {read[1]!r} on {read[0]!r}")
    if raw.crafted_on is not None:
        _check_transfer(raw.crafted_on, model, models, attack, f"{where}.crafted_on")
    for noise, seen in (("craft_noise", raw.crafted_on or model), ("score_noise", model)):
        if (value := getattr(attack, noise)) != "drawn" and models[seen].entry.defense.draws == "never":
            raise RedoubtError(
                f"{where}: {noise}: {value} of {attack.id!r} asks for a random model; {seen!r} never draws"
            )
    return Run(model, attack.id, reads, raw.crafted_on, raw.missing)


def _check_reads(
    raw: Evaluation,
    models: Mapping[str, Model],
    attack: AttackEntry,
    attacks: Mapping[str, AttackEntry],
    where: str,
) -> None:
    for source in raw.reads:
        known(source.model, models, f"{where}.reads.model")
        known(source.attack, attacks, f"{where}.reads.attack")
        if (of := attacks[source.attack].space) != attack.space:
            raise RedoubtError(
                f"{where}.reads.attack: {source.attack!r} is in space {of}, {attack.id!r} in space {attack.space}"
            )


def _check_transfer(source: str, target: str, models: Mapping[str, Model], attack: AttackEntry, where: str) -> None:
    """Refuse examples of another model that would not be inputs of the attacked one."""
    known(source, models, where)
    first, second = models[source].entry, models[target].entry
    if attack.probe is not None:
        raise RedoubtError(f"{where}: {attack.id!r} is a probe, which crafts nothing")
    if source == target:
        raise RedoubtError(f"{where}: {source!r} is the attacked model itself; leave this key out")
    if first.dataset != second.dataset:
        raise RedoubtError(f"{where}: {source!r} is trained on {first.dataset}, {target!r} on {second.dataset}")
    if attack.space == "preprocessed" and first.preprocessing != second.preprocessing:
        raise RedoubtError(f"{where}: {source!r} and {target!r} have different inputs; use space: pixels")


def sweep(run: Run, runs: Mapping[tuple[str, str], Run], attacks: Mapping[str, AttackEntry]) -> Sweep:
    """Return the columns of a run's rows that its attack sweeps, with their values.

    An attack declares `SWEEP`, column: parameter that lists the values; one that declares None has the sweeps of the
    runs that it reads.
    """
    entry = attacks[run.attack]
    declared: dict[str, str] | None = getattr(registry.method(*entry.method), "SWEEP", {})
    if declared is None:
        found: Sweep = {}
        for read in run.reads:
            found |= sweep(runs[read], runs, attacks)
        return found
    options: Any = registry.parameters(*entry.method, entry.parameters)
    listed = {column: getattr(options, parameter) for column, parameter in declared.items()}
    return {column: [float(value) for value in values] for column, values in listed.items() if values}
