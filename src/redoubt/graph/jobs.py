"""All jobs of a scale, one for each run: what each is made from, by which code, and which files it writes.

The one list that the rules of the workflow, `make plan`, DVC's stages and `make restore` read. Nothing here imports
torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from redoubt import layout, registry
from redoubt.data import sources
from redoubt.files import entry_digest, file_digest
from redoubt.graph import code
from redoubt.metrics.interface import read
from redoubt.study.catalog import Catalog
from redoubt.study.entries.base import Method
from redoubt.study.entries.model import ModelEntry
from redoubt.study.needs import Model

NAMES = {
    "download": "download/{dataset}",
    "prepare": "prepare/{dataset}/preprocessing/{preprocessing}",
    "pretrain": "pretrain/{model}/seed-{seed}",
    "defend": "defend/{model}/seed-{seed}",
    "attack": "attack/{model}/seed-{seed}/{attack}",
    "table": "table/{study}/{artifact}",
    "figure": "figure/{study}/{artifact}",
    "scorecard": "scorecard",
    "report": "report",
}
"""Names of jobs by step, from the wildcards of the step's rule."""

STEPS = {"pretrain": "train", "defend": "train"}
"""The module of redoubt.steps that a rule runs, where it has another name."""


@dataclass(frozen=True)
class Job:
    """One job of the workflow; `name` is that of its benchmark file too.

    Attributes:
        step: the rule that runs it (`report_page` for the report, since Snakemake has a function of that name).
        outputs: files that it writes.
        inputs: files that it reads, one or several, by the names that its rule gives them.
        modules: those that it runs; it depends on all that they import.
        entry: what decides its result beside code and inputs, as JSON data.
        version: digest of its code and of the files of the repository that it reads.
        weights: file of a user's that a training starts from; its digest is in the entry.
        elsewhere: it is of a study that lies outside the repository.
    """

    step: str
    outputs: tuple[str, ...]
    inputs: dict[str, str | tuple[str, ...]]
    modules: tuple[str, ...]
    entry: Any
    version: str
    dataset: str | None = None
    preprocessing: str | None = None
    model: str | None = None
    seed: int | None = None
    attack: str | None = None
    study: str | None = None
    artifact: str | None = None
    weights: str | None = None
    elsewhere: bool = False

    @property
    def name(self) -> str:
        """Step and ids, joined by slashes."""
        return NAMES[self.step].format(**vars(self))

    @property
    def stage(self) -> str | None:
        """Name of the job's stage in dvc.yaml, or of the .dvc file in its place; None where DVC keeps nothing of it.

        That is so of datasets, and of studies that lie outside the repository.
        """
        if self.step == "download" or self.elsewhere:
            return None
        if self.step == "prepare":
            return layout.kept_file(str(self.dataset), str(self.preprocessing))
        step, *ids = self.name.split("/")
        return "@".join(filter(None, [STEPS.get(step, step), "-".join(ids)]))

    def reads(self) -> Iterator[str]:
        """Yield the files that it reads."""
        for files in self.inputs.values():
            yield from [files] if isinstance(files, str) else files


class Jobs:
    """The jobs of a catalog's scale, in an order in which they can run.

    Args:
        catalog: all studies at one scale.
        source: folder that holds the package `redoubt`, whose text decides the versions of jobs; that of the catalog
            where it has files of users, else that of the running code, when None.
    """

    def __init__(self, catalog: Catalog, source: Path | None = None) -> None:
        self.catalog, self.scale = catalog, catalog.config.scale
        outside = catalog.outside.origins or catalog.outside.homes
        self._source = source or (catalog.sources / "src" if outside else code.SOURCE)
        steps = (self._downloads, self._prepared, self._trainings, self._attacks, self._artifacts, self._pages)
        self._jobs = {job.name: job for step in steps for job in step()}

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def of(self, step: str, wildcards: Mapping[str, str]) -> Job:
        """Return the job of a rule with these wildcards."""
        return self._jobs[NAMES[step].format(**dict(wildcards.items()))]

    def pattern(self, step: str) -> str:
        """Return a regular expression for the first id of a job of a step: an id, before the others of one such job."""
        rests: dict[str, list[str]] = {}
        for job in self:
            if job.step == step:
                _, first, *others = job.name.split("/")
                rests.setdefault(re.escape(first), []).append(re.escape("".join(f"/{other}" for other in others)))
        return "|".join(f"{first}(?=(?:{'|'.join(rest)})[/.])" for first, rest in rests.items()) or "none"

    @cached_property
    def makers(self) -> dict[str, Job]:
        """The job that writes a file, by the file."""
        return {file: job for job in self for file in job.outputs}

    def upstream(self, *jobs: Job) -> list[Job]:
        """Return some jobs and all that they are made from, each once, in an order in which they can run."""
        todo, seen = list(jobs), set()
        while todo:
            job = todo.pop()
            if job.name not in seen:
                seen.add(job.name)
                todo += [self.makers[file] for file in job.reads()]
        return [job for name, job in self._jobs.items() if name in seen]

    @cached_property
    def wanted(self) -> list[Job]:
        """The jobs of everything that the report shows, those that cannot be run here left out."""
        return self.upstream(self._jobs["report"])

    def training(self, job: Job) -> Job:
        """Return the job that trains the model of a training or an attack."""
        assert job.model is not None and job.seed is not None
        return self.makers[layout.model_file(self.scale, job.model, job.seed, "weights.safetensors")]

    # -- one step after the other --------------------------------------------------------------------------------------

    def _version(self, modules: tuple[str, ...], files: tuple[str, ...] = ()) -> str:
        contents = [file_digest(self.catalog.sources / file) for file in files]
        return entry_digest([code.digest(*modules, source=self._source), *contents])

    def _job(
        self, step: str, modules: list[str], outputs: tuple[str, ...], files: tuple[str, ...] = (), **facts: Any
    ) -> Job:
        named = tuple(dict.fromkeys([f"redoubt.steps.{STEPS.get(step, step)}", *modules]))
        model, study = facts.get("model"), facts.get("study")
        study = self.catalog.models[model].study if model else study
        facts |= {"elsewhere": study in self.catalog.outside.ids.values()}
        return Job(step=step, modules=named, outputs=outputs, version=self._version(named, files), **facts)

    def _downloads(self) -> Iterator[Job]:
        for name, source in sources.SOURCES.items():
            yield self._job("download", [], layout.data_files(name), inputs={}, entry=source.entry(), dataset=name)

    def _prepared(self) -> Iterator[Job]:
        for model in self.catalog.models.values():
            entry = model.entry.preprocessing
            file = preprocessing_of(model)
            yield self._job(
                "prepare",
                [registry.module_name("preprocessing", entry.name)],
                (file,),
                inputs={"data": layout.data_file(model.dataset, "meta.json")},
                entry=entry.dump(),
                dataset=model.dataset,
                preprocessing=Path(file).stem,
            )

    def _trainings(self) -> Iterator[Job]:
        for model in self.catalog.models.values():
            entry = model.entry
            modules = [registry.module_name("defenses", entry.defense.name), *_parts(entry)]
            modules += [registry.module_name("probes", probe.probe) for probe in entry.training.probes]
            for seed in model.seeds:
                start = self._weights(model.start, seed)[0] if model.start else ()
                yield self._job(
                    model.step,
                    modules,
                    layout.model_files(self.scale, model.id, seed),
                    inputs={
                        "data": layout.data_file(model.dataset, "meta.json"),
                        "preprocessing": preprocessing_of(model),
                        "start": start,
                    },
                    entry=entry.dump(),
                    dataset=model.dataset,
                    model=model.id,
                    seed=seed,
                    weights=model.weights,
                )

    def _attacks(self) -> Iterator[Job]:
        for (key, attack), run in self.catalog.runs.items():
            model, entry = self.catalog.models[key], self.catalog.attacks[attack]
            modules = [registry.module_name(*entry.method), *_parts(model.entry)]
            if entry.engine != "redoubt":
                modules.append(registry.module_name("engines", entry.engine))
            source = self.catalog.models[run.crafted_on] if run.crafted_on else None
            modules += _parts(source.entry) if source else []
            for seed in model.seeds:
                weights, provenance = self._weights(key, seed)
                inputs = {
                    "data": layout.data_file(model.dataset, "meta.json"),
                    "weights": weights,
                    "provenance": provenance,
                    "preprocessing": preprocessing_of(model),
                    "reads": tuple(
                        layout.attack_file(self.scale, read, self.catalog.models[read].seed_for(seed), by)
                        for read, by in run.reads
                    ),
                    "crafted_on": self._weights(source.id, seed) if source else (),
                    "crafted_preprocessing": preprocessing_of(source) if source else (),
                }
                yield self._job(
                    "attack",
                    modules,
                    (layout.attack_file(self.scale, key, seed, attack),),
                    inputs=inputs,
                    entry=entry.dump(),
                    dataset=model.dataset,
                    model=key,
                    seed=seed,
                    attack=attack,
                )

    def _artifacts(self) -> Iterator[Job]:
        for (study, key), raw in self.catalog.artifacts.items():
            needs = [need for need in self.catalog.needs(study, key) if self.catalog.missing(need) is None]
            yield self._job(
                raw.kind,
                [registry.module_name("artifacts", raw.plot), *self._metrics(study, key)],
                layout.artifact_files(self.scale, study, key, raw.kind),
                (layout.published_file(study),),
                inputs={"data": tuple(file for need in needs for file in self.catalog.files_of(need))},
                entry=self.catalog.artifact_entry(study, key).dump(),
                study=study,
                artifact=key,
            )

    def _metrics(self, study: str, key: str) -> list[str]:
        return [type(read(metric)).__module__ for metric in self.catalog.artifacts[study, key].asked("metrics")]

    def _pages(self) -> Iterator[Job]:
        catalog, scale = self.catalog, self.scale
        files = {key: layout.artifact_files(scale, *key, raw.kind) for key, raw in catalog.artifacts.items()}
        scorecard = layout.scorecard_files(scale)
        published = tuple(layout.published_file(study) for study in catalog.studies)
        tables = tuple(file for group in files.values() for file in group if file.endswith(".csv"))
        tested = tuple(file for need in catalog.tested for file in catalog.files_of(need))
        yield self._job(
            "scorecard",
            [metric for key in catalog.artifacts for metric in self._metrics(*key)],
            tuple(scorecard.values()),
            published,
            inputs={"artifacts": tables, "rows": tested},
            entry=catalog.claims_hash(),
        )
        metrics = [metric for key in catalog.artifacts for metric in self._metrics(*key)]
        templates = sorted((self._source / "redoubt/report/templates").iterdir())
        worlds = [layout.worlds_file(study) for study in catalog.studies]
        yield self._job(
            "report",
            metrics,
            tuple(layout.report_files(scale).values()),
            (
                *(str(file.absolute()) for file in templates if file.is_file()),
                *(file for file in worlds if (catalog.sources / file).is_file()),
            ),
            inputs={
                "scorecard": scorecard["scorecard"],
                "claims": scorecard["claims"],
                "artifacts": tuple(file for group in files.values() for file in group),
            },
            entry=entry_digest([catalog.report_entry(), *self._entries()]),
        )

    def _entries(self) -> list[dict[str, Any]]:
        """Return the entries of the models and attacks of all artifacts, which the report tells where it is asked."""
        catalog = self.catalog
        needs = [need for key in catalog.artifacts for need in catalog.needs(*key)]
        models = {need.model: catalog.models[need.model].entry.dump() for need in needs}
        strong = [each.attack for key in catalog.artifacts for each in catalog.answers(*key)]
        attacks = dict.fromkeys([*(need.attack for need in needs if need.attack), *strong])
        return [models, {key: catalog.attacks[key].dump() for key in attacks}]

    def _weights(self, model: str, seed: int) -> tuple[str, str]:
        """Return weights and provenance of the run of a model that goes with a run of what is built on it."""
        run = self.catalog.models[model].seed_for(seed)
        weights, provenance, *_ = layout.model_files(self.scale, model, run)
        return weights, provenance


def preprocessing_of(model: Model) -> str:
    """Return the file of what a model's preprocessing has learned; models that share dataset and entry share it."""
    entry = model.entry.preprocessing
    return layout.preprocessing_file(model.dataset, entry.name, entry_digest(entry.dump()))


def _parts(entry: ModelEntry) -> list[str]:
    """Return the modules that build a model: its defense's too where that changes the network."""
    parts: list[tuple[str, Method]] = [("networks", entry.network), ("preprocessing", entry.preprocessing)]
    parts += [("defenses", entry.defense)] if entry.defense.changes else []
    return [module for kind, method in parts for module in registry.code_of(kind, method)]
