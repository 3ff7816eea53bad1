"""The bridge from the catalog to the rules: entries, inputs and code of every job. The only file with functions."""

import hashlib
import re
import shlex
import sys
from functools import cache
from pathlib import Path


from redoubt.study import catalog as catalog_module
from redoubt.graph import cluster
from redoubt import layout
from redoubt.errors import RedoubtError
from redoubt.files import canonical_json, entry_digest


def load_catalog():
    """Read and check all config before any job starts; a mistake ends the run with one line."""
    try:
        return catalog_module.load(SOURCES, config)
    except RedoubtError as error:
        raise SystemExit("error: " + " ".join(str(error).split()))


CATALOG = load_catalog()
SCALE = CATALOG.config.scale
GPUS = CATALOG.gpus
# Facts of the machine are resources of the rules, not parameters: changing them reruns nothing.
DEVICE = CATALOG.config.device
MIRRORS = shlex.join(f"--mirror={mirror}" for mirror in CATALOG.mirrors)
IMAGENET = shlex.join(
    f"--imagenet={folder}" for folder in filter(None, [CATALOG.config.data.imagenet])
)
# A training goes on from its saved state. Who submits a job retries it, with more memory and time, not the job itself.
RETRIES = 2 if workflow.is_main_process else 0
TABLES = [
    key for (study, key), entry in CATALOG.artifacts.items() if entry.kind == "table"
]
FIGURES = [
    key for (study, key), entry in CATALOG.artifacts.items() if entry.kind == "figure"
]
SCORECARD_CODE = CATALOG.code("steps.scorecard")
PUBLISHED = [layout.published_file(study) for study in CATALOG.studies]
REPORT_CODE, REPORT_FILES = CATALOG.report_code(), CATALOG.report_files
BASELINES = [key for key, model in CATALOG.models.items() if model.step == "pretrain"]
DEFENDED = [key for key, model in CATALOG.models.items() if model.step == "defend"]


def either(names):
    """Return a wildcard constraint that admits these names only."""
    return "|".join(re.escape(name) for name in names) or "none"


def code(*modules):
    """Return the source files that a step reads."""
    return CATALOG.code(*modules)


def watched(files):
    """Return source files as inputs; a job on a cluster has its copy of them, and is not to miss what has gone since."""
    return files if workflow.is_main_process else []


def before_submission():
    """Cancel what a killed run of this folder has left in a cluster's queue, and do not lose sight of what follows."""
    if workflow.local_exec:
        return
    cluster.keep_sight_of_jobs(workflow.executor_plugin.executor)
    try:
        cancelled = cluster.cancel_leftovers(Path.cwd())
    except RedoubtError as error:
        raise SystemExit(f"error: {error}")
    if cancelled:
        print(
            f"cancelled jobs of an earlier run: {', '.join(cancelled)}", file=sys.stderr
        )


def growing(amount):
    """Return a resource (memory, time) that grows with every retry."""
    return lambda wildcards, attempt: amount * attempt


@cache
def content(file):
    """Return the digest of a source file."""
    return hashlib.sha256(Path(SOURCES, file).read_bytes()).hexdigest()


def contents(*parts):
    """Return a parameter, the digest of files of the repository that a job reads: an edit counts whatever the clock says.

    `parts` name files, or are functions of the wildcards that do. (A parameter that asks for `input` would not count.)
    """

    def digest(wildcards):
        found = [part(wildcards) if callable(part) else part for part in parts]
        lists = [[part] if isinstance(part, str) else part for part in found]
        return entry_digest(
            [content(file) for files in lists for file in files]
        )

    return digest


def model_entry(wildcards):
    """Return what training reads of a model's entry, as canonical JSON."""
    return canonical_json(CATALOG.models[wildcards.model].entry)


def model_code(wildcards):
    """Return the source files that training a model reads."""
    return CATALOG.model_code(wildcards.model)


def data_of(wildcards):
    """Return the dataset that a model is trained and attacked on."""
    return layout.data_file(CATALOG.models[wildcards.model].dataset, "meta.json")


def start_of(wildcards):
    """Return the weights that a defended model starts from, none when it is trained from scratch."""
    if (key := CATALOG.models[wildcards.model].start) is None:
        return []
    seed = CATALOG.models[key].seeds[0]
    return layout.model_file(SCALE, key, seed, "weights.safetensors")


def attack_entry(wildcards):
    """Return an attack's entry as canonical JSON."""
    return canonical_json(CATALOG.attacks[wildcards.attack])


def attack_code(wildcards):
    """Return the source files that an attack on a model reads."""
    return CATALOG.attack_code(wildcards.model, wildcards.attack)


def attack_reads(wildcards):
    """Return the finished rows that an attack builds on."""
    run = CATALOG.runs[wildcards.model, wildcards.attack]
    return [
        layout.attack_file(SCALE, model, wildcards.seed, attack)
        for model, attack in run.reads
    ]


def artifact_entry(wildcards):
    """Return what drawing a table or figure reads of its entry, as canonical JSON."""
    return canonical_json(CATALOG.artifact_entry(wildcards.study, wildcards.artifact))


def artifact_code(wildcards):
    """Return the source files that drawing a table or figure reads."""
    return CATALOG.artifact_code(wildcards.study, wildcards.artifact)


def artifact_inputs(wildcards):
    """Return the histories and rows that a table or figure shows; what cannot be had is told by its entry."""
    needs = CATALOG.needs(wildcards.study, wildcards.artifact)
    had = [need for need in needs if CATALOG.missing(need) is None]
    return [file for need in had for file in CATALOG.files_of(need)]


def published(wildcards):
    """Return the printed numbers of a study."""
    return layout.published_file(wildcards.study)


def artifact_files(suffixes):
    """Return files of all tables and figures of all studies."""
    return [
        layout.artifact_file(SCALE, study, key, suffix)
        for (study, key), entry in CATALOG.artifacts.items()
        for suffix in suffixes[entry.kind]
    ]


def study_targets(name):
    """Return the tables and figures of one study, none when it does not take part."""
    return [
        file for file in artifact_files(layout.SUFFIXES) if file.split("/")[2] == name
    ]


def report_entry(wildcards):
    """Return what the report reads of the whole catalog, as canonical JSON."""
    return canonical_json(CATALOG.report_entry())


def claims_entry(wildcards):
    """Return a digest of all that decides the claims; the step reads the config itself."""
    return CATALOG.claims_hash()


wildcard_constraints:
    scale=either([SCALE]),
    dataset=either(catalog_module.sources.SOURCES),
    study=either(CATALOG.studies),
    seed=r"\d+",
    attack=either(CATALOG.attacks),
