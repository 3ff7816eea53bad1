"""The bridge from the list of jobs to the rules. The only file with functions."""

import re
import shlex
import sys
from pathlib import Path


from redoubt import layout
from redoubt.errors import RedoubtError
from redoubt.files import canonical_json
from redoubt.graph import cluster, rounds
from redoubt.graph.jobs import Jobs
from redoubt.study import catalog


def load_jobs():
    """Read and check all config before any job starts; a mistake ends the run with one line."""
    try:
        return Jobs(catalog.load(SOURCES, config, results=Path()), Path(SOURCES, "src"))
    except RedoubtError as error:
        raise SystemExit("error: " + " ".join(str(error).split()))


JOBS = load_jobs()
CATALOG = JOBS.catalog
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
# What steps that read the config themselves are given.
CONFIG = canonical_json({"scale": SCALE, "studies": list(CATALOG.studies)})


def of(rule, part):
    """Return a function of wildcards: `inputs`, `entry` or `version` of the rule's job."""
    return lambda wildcards: getattr(JOBS.of(rule, wildcards), part)


def text(rule):
    """Return a function of wildcards: the entry of the rule's job as canonical JSON."""
    return lambda wildcards: canonical_json(JOBS.of(rule, wildcards).entry)


def option(name):
    """Return a function: a command line's option for an input that some jobs of a rule have, such as `--start FILE`."""
    flag = f"--{name.replace('_', '-')}"
    return lambda wildcards, input: (
        f"{flag} {files[0]}"
        if (files := shlex.split(str(getattr(input, name))))
        else ""
    )


def dataset(wildcards):
    """Return the option for a dataset of ours, or for a folder of the user's; where that lies changes no result."""
    folder = CATALOG.config.data.folders.get(wildcards.dataset)
    if folder is None:
        return f"--dataset {wildcards.dataset}"
    shape = [folder.channels, folder.height, folder.width]
    facts = {"dataset": wildcards.dataset, "path": folder.path, "shape": shape}
    return shlex.join(["--pictures", canonical_json(facts)])


def given_weights(wildcards):
    """Return the option for a user's file of weights that a training starts from; where it lies changes no result."""
    file = layout.model_file(
        SCALE, wildcards.model, wildcards.seed, "weights.safetensors"
    )
    given = JOBS.makers[file].weights
    return shlex.join(["--weights", given]) if given else ""


def growing(amount):
    """Return a resource (memory, time) that grows with every retry."""
    return lambda wildcards, attempt: amount * attempt


def before_submission():
    """Cancel what a killed run of this folder has left in a cluster's queue, and keep polling jobs of unknown status."""
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


wildcard_constraints:
    scale=re.escape(SCALE),
    seed=r"\d+",
