"""Everything that exists: config files to models, attacks, evaluations, artifacts and claims, checked as a whole.

Nothing here imports torch: the workflow builds this while it builds its graph.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from redoubt import registry
from redoubt.data import sources
from redoubt.errors import RedoubtError
from redoubt.files import entry_digest
from redoubt.layout import attack_file, model_file, published_file
from redoubt.study import answers, artifacts, evaluations, models, settings
from redoubt.study.addresses import NUMBER, Place
from redoubt.study.artifacts import Artifacts, Drawn
from redoubt.study.claims import Resolved
from redoubt.study.config import Baseline, Defended
from redoubt.study.entries.artifact import Answered, ArtifactEntry, Input, Look, Shown
from redoubt.study.entries.attack import AttackEntry
from redoubt.study.files import Files, read
from redoubt.study.needs import Model, Need, Run
from redoubt.study.outside import as_written
from redoubt.study.published import read_published


class Catalog(Files):
    """All studies at one scale, resolved."""

    @cached_property
    def models(self) -> dict[str, Model]:
        """All models, starts before what is made from them."""
        return models.models(self, self.mirrors)

    @cached_property
    def mirrors(self) -> list[str]:
        """Data mirrors in the order in which they are tried."""
        return sources.mirrors(list(self.config.data.mirrors), self.environment)

    @property
    def gpus(self) -> int:
        """GPUs that a training or attack job takes: one where torch will use one, none otherwise."""
        device = self.config.device
        return int(device == "cuda" or (device == "auto" and Path("/dev/nvidia0").exists()))

    @cached_property
    def attacks(self) -> dict[str, AttackEntry]:
        """Entries of all attacks, as the attack step reads them."""
        return evaluations.attacks(self)

    @cached_property
    def runs(self) -> dict[tuple[str, str], Run]:
        """All evaluations, one for each model and attack."""
        return evaluations.runs(self, self.models, self.attacks)

    def missing(self, need: Need) -> str | None:
        """Return why something that an artifact reads is not available here, or None."""
        if (reason := self.models[need.model].missing) is not None or need.attack is None:
            return reason
        run = self.runs[need.model, need.attack]
        if run.missing is not None:
            return run.missing
        further = [Need(model, attack) for model, attack in run.reads]
        further += [Need(run.crafted_on)] if run.crafted_on else []
        return next((reason for other in further if (reason := self.missing(other)) is not None), None)

    @cached_property
    def _artifacts(self) -> Artifacts:
        return artifacts.Artifacts(self, self.models, self.runs, self.sweep)

    @cached_property
    def _sweeps(self) -> dict[Run, evaluations.Sweep]:
        return {run: evaluations.sweep(run, self.runs, self.attacks) for run in self.runs.values()}

    def sweep(self, run: Run) -> evaluations.Sweep:
        """Return the columns of a run's rows that its attack sweeps, with their values."""
        return self._sweeps[run]

    @property
    def artifacts(self) -> dict[tuple[str, str], Drawn]:
        """All tables and figures by study and id, in the order of the config."""
        return self._artifacts.drawn

    def needs(self, study: str, artifact: str) -> list[Need]:
        """Return what an artifact reads, each once; the strong attacks that answer its numbers too."""
        answers = [Need(each.row, each.attack) for each in self.answers(study, artifact)]
        return list(dict.fromkeys([*self.artifacts[study, artifact].asked("needs"), *answers]))

    def answers(self, study: str, artifact: str) -> list[Answered]:
        """Return the cells and lines that strong attacks answer; none of a plot that shows no such number."""
        return self._answers[study, artifact]

    def answer(self, place: Place) -> Answered | None:
        """Return which strong attacks answer the number at a place, None where none do."""
        cell = tuple(dict(place.where).get(name) for name in ("row", "column"))
        return self._by_cell[place.study, place.artifact].get(cell) if place.value == NUMBER else None

    @cached_property
    def _by_cell(self) -> dict[tuple[str, str], dict[tuple, Answered]]:
        return {key: {(each.row, each.column): each for each in own} for key, own in self._answers.items()}

    @cached_property
    def _answers(self) -> dict[tuple[str, str], list[Answered]]:
        by = {name: answers.Answers(name, study, self.runs, self.sweep) for name, study in self.studies.items()}
        numbers = {key: drawn.asked("answerable") for key, drawn in self.artifacts.items()}
        for name, own in by.items():
            mine = {key: each for (study, key), each in numbers.items() if study == name}
            own.check([f"{key}/{number.cell['column']}" for key, each in mine.items() for number in each])
        found = {(study, key): [by[study].answered(key, each) for each in own] for (study, key), own in numbers.items()}
        return {key: [each for each in own if each is not None] for key, own in found.items()}

    @cached_property
    def claims(self) -> dict[tuple[str, str], Resolved]:
        """All claims by study and id, with the checks that they stand for."""
        return self._artifacts.claims()

    @property
    def tested(self) -> list[Need]:
        """The rows of attacks behind the numbers of claims, each once, those that are not available left out."""
        places = [place for claim in self.claims.values() for check in claim.checks for place in check.places]
        needs = dict.fromkeys(Need(place.model, place.attack) for place in places if place.attack)
        answered = [(place.model, answer.attack) for place in places if (answer := self.answer(place)) is not None]
        needs |= dict.fromkeys(Need(*each) for each in answered)
        return [need for need in needs if self.missing(need) is None]

    def check(self) -> Catalog:
        """Look at every entry once, so that a mistake is reported before any job starts; return the catalog."""
        for part in (self.models, self.attacks, self.runs, self.artifacts, self._answers, self.claims, self.mirrors):
            len(part)
        self._artifacts.check_published()
        self._artifacts.check_declared()
        return self

    # -- what steps read ----------------------------------------------------------------------------------------------

    def artifact_entry(self, study: str, artifact: str) -> ArtifactEntry:
        """Return what the step of an artifact reads: the entry, labels and reasons, and where its inputs lie."""
        raw, needs = self.artifacts[study, artifact], self.needs(study, artifact)
        shown = dict.fromkeys([*(need.model for need in needs), *raw.asked("models")])
        inputs = [
            Input(model=need.model, attack=need.attack, missing=self.missing(need), files=self.files_of(need))
            for need in needs
        ]
        return ArtifactEntry(
            study=study,
            id=artifact,
            scale=self.config.scale,
            **vars(raw),
            published=published_file(study),
            stamp=self.scale.stamp,
            comparable=self.scale.comparable,
            verdict=self.config.verdict,
            declared=[each for item in self.studies[study].deviations for each in item.declared(artifact)],
            models={model: self._shown(model, raw.asked("shows"), raw.asked("settings")) for model in shown},
            looks=self._looks(shown) if raw.kind == "figure" else {},
            inputs=inputs,
            adaptive=self.answers(study, artifact),
        )

    def claims_hash(self) -> str:
        """Return a digest of what the scorecard reads of the config: all artifacts, and claims with their checks."""
        claims = {f"{study}/{key}": asdict(claim) for (study, key), claim in self.claims.items()}
        answers = [[*key, *(each.model_dump() for each in own)] for key, own in self._answers.items() if own]
        return entry_digest([claims, [list(key) for key in self.artifacts], answers])

    def basis(self, study: str, claim: Resolved) -> str:
        """Return a digest of what simulated worlds make of a claim, the same at every scale.

        That is its checks, the printed numbers, and images and seeds as the study says them.
        """
        raw = self.studies[study]
        models: dict[str, Baseline | Defended] = {**raw.baselines, **raw.models}
        sizes = [
            [
                raw.attacks[place.attack].select.model_dump() if place.attack else None,
                models[place.model].schedule.track.model_dump(),
                models[place.model].seeds,
            ]
            for check in claim.checks
            for place in check.places
        ]
        checks = [asdict(check) for check in claim.checks]
        return entry_digest([checks, claim.open, claim.opposite, sizes, self.printed[study]])

    @cached_property
    def printed(self) -> dict[str, list[list[Any]]]:
        """Printed numbers of each study, by artifact, row and column, read once for all of its claims."""
        numbers = {study: read_published(published_file(study), self.sources) for study in self.studies}
        return {study: [[*key, number.value] for key, number in sorted(own.items())] for study, own in numbers.items()}

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
                    key: {
                        "title": study.claims[key].title,
                        "statement": claim.statement,
                        "where": claim.where,
                        "basis": self.basis(name, claim),
                    }
                    for (own, key), claim in self.claims.items()
                    if own == name
                },
                "deviations": [deviation.model_dump(exclude={"cells"}) for deviation in study.deviations],
            }
        return {
            "scale": self.config.scale,
            "stamp": self.scale.stamp,
            "comparable": self.scale.comparable,
            "verdict": self.config.verdict.model_dump(),
            "stand_ins": self.scale.stand_ins,
            "changes": [
                *(override.why for own in self.changes.values() for override in own.overrides),
                *(cut.why for own in self.changes.values() for cut in own.cuts),
            ],
            "missing": sorted({model.missing for model in self.models.values() if model.missing}),
            "studies": studies,
        }

    def _looks(self, shown: Iterable[str]) -> dict[str, Look]:
        """Return the looks of the methods of some models, so that those of others change nothing of an artifact."""
        methods = sorted({self.models[model].labels["method"] for model in shown})
        return {method: self.looks.methods[method] for method in methods if method in self.looks.methods}

    def _shown(self, model: str, parameters: list[str], paths: list[str]) -> Shown:
        found, shown = self.models[model], {}
        if parameters:
            defense = found.entry.defense
            values = registry.parameters("defenses", defense.name, defense.parameters).model_dump(by_alias=True)
            shown = {key: values[key] for key in parameters if key in values}
        facts = {"labels": found.labels, "dataset": found.dataset, "parameters": shown, "start": found.start}
        return Shown(**facts, settings=settings.settings(found.entry, paths) if paths else {})

    def files_of(self, need: Need) -> list[str]:
        """Return the files of a need, one for each seed."""
        if need.attack is None:
            return [
                model_file(self.config.scale, need.model, seed, name)
                for seed in self.models[need.model].seeds
                for name in ("history.csv", "trace.parquet")
            ]
        return [attack_file(self.config.scale, need.model, seed, need.attack) for seed in self.models[need.model].seeds]


def load(
    root: Path | str = ".",
    changes: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    results: Path | None = None,
) -> Catalog:
    """Read and check all config files.

    Args:
        root: folder of the repository, or of a copy of its sources.
        changes: keys of `config/config.yaml` and their values, as `--config` gives them.
        environment: environment variables; those of the process when None.
        results: folder that `results/` lies in; `root` when None.

    Raises:
        RedoubtError: one line that names file, key and what was expected.
    """
    files = read(Path(root), changes or {}, os.environ if environment is None else environment, results)
    try:
        return Catalog(**vars(files)).check()
    except RedoubtError as error:
        raise RedoubtError(as_written(str(error), files.sources)) from None
