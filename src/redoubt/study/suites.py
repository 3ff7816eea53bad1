"""Suites of strong attacks, written out: from what a study asks for to plain attacks and evaluations.

An answer `mnist-linf` of a study stands for the attacks `adaptive-mnist-linf-<name>`, one for each attack of its suite
and each wrapper that a defense of its models names, and for `adaptive-mnist-linf`, which takes the worst of them for
every image. Their evaluations come after those of the study, so that finished rows of its own attacks may count too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.layout import SUITES, study_file
from redoubt.records import typed
from redoubt.study.config import Answer, Evaluation, Kept, Source, Study, Suite, Suites
from redoubt.study.entries.adaptive import TRANSFER, WRAPPERS
from redoubt.study.entries.attack import Attack, AttackEntry, Select
from redoubt.study.needs import Run
from redoubt.study.reading import known, merged

PREFIX = "adaptive-"
Sweep = dict[str, list[float]]
"""Columns of an attack's rows that are swept, and their values."""


def worst(answer: str) -> str:
    """Return the id of the attack that takes the worst of an answer."""
    return f"{PREFIX}{answer}"


def member(answer: str, name: str) -> str:
    """Return the id of one attack of an answer."""
    return f"{PREFIX}{answer}-{name}"


def matched(patterns: Iterable[str], models: Iterable[str], where: str) -> list[str]:
    """Return the models that patterns with * match, each once.

    Raises:
        RedoubtError: one matches none.
    """
    models, result = list(models), []
    for pattern in patterns:
        if not (found := [key for key in models if fnmatchcase(key, pattern)]):
            raise RedoubtError(f"{where}: {pattern!r} matches no model of this study")
        result += found
    return list(dict.fromkeys(result))


def with_suites(name: str, study: Study, shared: Suites, kept: Kept | None = None) -> Study:
    """Return a study with the attacks and evaluations that its answers stand for.

    Args:
        name: of the study.
        study: as its files have it.
        shared: content of suites.yaml.
        kept: what the scale keeps of the suites; None: all.

    Raises:
        RedoubtError: an answer names what does not exist, or an entry is not one of an attack.
    """
    attacks, evaluations = dict(study.attacks), list(study.evaluations)
    for key, answer in study.adaptive.items():
        where = f"{study_file(name, 'attacks')}: adaptive.{key}"
        known(answer.suite, shared.suites, f"{where}.suite")
        for own in answer.also:
            known(own, study.attacks, f"{where}.also")
        written = _Written(key, answer, shared, kept, where)
        models = matched(answer.models, [*study.baselines, *study.models], f"{where}.models")
        wrappers = {model: _named(study, model, written) for model in models}
        named = dict.fromkeys(wrapper for own in wrappers.values() for wrapper in own)
        attacks |= written.attacks(named)
        for model in models:
            finished = [own for own in answer.also if _runs(study, own, model)]
            evaluations += written.evaluations(model, wrappers[model], finished)
    return study.model_copy(update={"attacks": attacks, "evaluations": evaluations})


class _Written:
    """One answer of a study, written out."""

    def __init__(self, key: str, answer: Answer, shared: Suites, kept: Kept | None, where: str) -> None:
        self.key, self.answer, self.shared, self.kept, self.where = key, answer, shared, kept, where
        self.suite: Suite = shared.suites[answer.suite]

    def attacks(self, wrappers: Iterable[str]) -> dict[str, Attack]:
        """Return the entries of the suite's attacks, of wrappers, and of the worst of all."""
        entries = self.suite.entries()
        for wrapper in wrappers:
            entries[wrapper] = merged(entries[self.suite.wrappers[wrapper]], WRAPPERS[wrapper].keys)
        for name in self.answer.each:
            known(name, entries, f"{self.where}.each")
        result = {member(self.key, name): self._attack(name, entry) for name, entry in entries.items()}
        alike = {key: self.answer.set[key] for key in ("space", "select") if key in self.answer.set}
        chosen = self.suite.model_dump(include={"by", "sweep", "whole"}, exclude_defaults=True)
        chosen |= {"level": self.answer.level} if self.answer.level is not None else {}
        return result | {worst(self.key): Attack(attack="worst-of", parameters=chosen, **alike)}

    def _attack(self, name: str, entry: Mapping[str, Any]) -> Attack:
        entry = merged(merged(entry, self.answer.set), self.answer.each.get(name, {}))
        return typed(Attack, entry, f"{self.where}: {SUITES}: suites.{self.answer.suite}.attacks.{name}")

    def evaluations(self, model: str, wrappers: Iterable[str], finished: list[str]) -> Iterator[Evaluation]:
        """Yield which attacks run on a model, and what the worst of them reads."""
        names = {name: member(self.key, name) for name in (*self.suite.entries(), *wrappers)}
        read = [own for own in finished if self._keeps(own)]
        read += [attack for name, attack in names.items() if self._keeps(name)]
        left_out = not read or (self.kept is not None and not _any(model, self.kept.models))
        why = self.kept.why if self.kept is not None else None
        for name, attack in names.items():
            source = self.answer.undefended if name == TRANSFER else None
            yield self._evaluation(attack, model, [], why if left_out or not self._keeps(name) else None, source)
        yield self._evaluation(worst(self.key), model, read or list(names.values()), why if left_out else None)

    def _keeps(self, name: str) -> bool:
        return self.kept is None or _any(name, self.kept.attacks)

    @staticmethod
    def _evaluation(
        attack: str, model: str, reads: list[str], missing: str | None, crafted_on: str | None = None
    ) -> Evaluation:
        sources = [Source(model=model, attack=own) for own in reads]
        return Evaluation(attack=[attack], models=[model], reads=sources, missing=missing, crafted_on=crafted_on)


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _runs(study: Study, attack: str, model: str) -> bool:
    """Return whether an evaluation of the study runs an attack on a model."""
    return any(attack in own.attack and _any(model, own.models) for own in study.evaluations)


def _named(study: Study, model: str, written: _Written) -> list[str]:
    """Return the wrappers that the defense of a model names and that fit the suite.

    Raises:
        RedoubtError: the suite neither has one nor says why not, or it needs a model that the answer does not name.
    """
    defense = study.models[model].defense if model in study.models else None
    names = adaptive(defense) if defense else []
    suite, key, found = written.suite, written.answer.suite, []
    for name in names:
        named = f"which the defense {defense!r} of {model!r} names"
        if name not in suite.wrappers and name not in suite.without:
            fix = "give it in wrappers, or in without the reason why it fits none of the attacks"
            raise RedoubtError(f"{SUITES}: suites.{key}: there is no wrapper {name!r}, {named}; {fix}")
        if name == TRANSFER and name in suite.wrappers and written.answer.undefended is None:
            raise RedoubtError(f"{written.where}.undefended: expected a model for the wrapper {name!r}, {named}")
        found += [name] if name in suite.wrappers else []
    return found


def adaptive(defense: str) -> list[str]:
    """Return the wrappers that a defense declares; none of a defense that does not exist, which is told elsewhere."""
    try:
        declared = registry.method("defenses", defense).DECLARES
    except RedoubtError:
        return []
    names = getattr(declared, "adaptive", ())
    return [] if isinstance(names, str) else list(names)


def check(shared: Suites) -> None:
    """Refuse a suite without attacks, or whose wrappers do not exist or change an attack that is not in it.

    Raises:
        RedoubtError: naming the suite.
    """
    for key, suite in shared.suites.items():
        where = f"{SUITES}: suites.{key}"
        if not (entries := suite.entries()):
            raise RedoubtError(f"{where}.attacks: expected at least one, or a battery")
        for wrapper in (*suite.wrappers, *suite.without):
            known(wrapper, WRAPPERS, f"{where}.wrappers")
        for wrapper, attack in suite.wrappers.items():
            known(attack, entries, f"{where}.wrappers.{wrapper}")


def check_worst(run: Run, attacks: Mapping[str, AttackEntry], swept: Callable[[str], Sweep], where: str) -> None:
    """Refuse a worst of several whose members attack other models or images, or sweep other values.

    Args:
        run: of the attack that takes the worst.
        attacks: all entries.
        swept: function from a member's id to what it sweeps on this model.
        where: for the message.

    Raises:
        RedoubtError: naming the member.
    """
    entry = attacks[run.attack]
    if not run.reads:
        raise RedoubtError(f"{where}: {entry.id!r} takes the worst of what it reads; give `reads`")
    column = entry.parameters.get("sweep")
    reference = run.reads[0][1]
    for model, name in run.reads:
        own = attacks[name]
        if model != run.model:
            raise RedoubtError(f"{where}.reads: {entry.id!r} on {run.model!r} reads an attack on {model!r}")
        if not _covers(own.select, entry.select):
            reason = "override the `select` of either"
            raise RedoubtError(
                f"{where}.reads: {name!r} does not attack the images that {entry.id!r} selects; {reason}"
            )
        if own.repetitions != attacks[reference].repetitions:
            raise RedoubtError(f"{where}.reads: {name!r} and {reference!r} have other repetitions; give equal ones")
        if set(swept(name)) != ({column} if column else set()) or swept(name) != swept(reference):
            what = (
                f"sweeps other values of {column} than {reference!r}" if column else "sweeps, and takes no single value"
            )
            raise RedoubtError(f"{where}.reads: {name!r} {what}")


def _covers(own: Select, asked: Select) -> bool:
    """Return whether the images of one selection hold those of another."""
    alike = (own.split, own.label, own.not_label) == (asked.split, asked.label, asked.not_label)
    return alike and (own.images is None or (asked.images is not None and asked.images <= own.images))
