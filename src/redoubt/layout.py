"""Where every file lies, relative to the root; a path holds ids, never parameters.

Rules of the workflow pass wildcards ("{model}") in the place of ids.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
"""Folder that holds the package `redoubt` that is running."""
OWN = "redoubt_own"
"""Package of the users' files that a run copies beside `redoubt`: `net.py` of a study is `redoubt_own.<study>.net`."""

SUFFIXES = {"table": ("csv", "md"), "figure": ("csv", "svg", "png")}
"""Of the files of an artifact, by its kind."""
CONFIG = "config/config.yaml"
LOOKS = "config/looks.yaml"
SUITES = "config/suites.yaml"
OUTSIDE = "config/outside.json"  # in the copy of the sources that a run uses: where files outside the repository lie
MODEL_FILES = ("weights.safetensors", "model.json", "history.csv", "trace.parquet")


def study_file(study: str, part: str) -> str:
    """Return one of the config files of a study: `part` is study, models, attacks, artifacts, claims or ledger."""
    return f"config/studies/{study}/{part}.yaml"


def scale_file(scale: str) -> str:
    """Return the config file of a scale."""
    return f"config/scales/{scale}.yaml"


def changes_file(scale: str, study: str) -> str:
    """Return the config file of what a scale changes in one study; it may be absent."""
    return f"config/scales/{scale}/{study}.yaml"


def published_file(study: str) -> str:
    """Return the file of a study's printed numbers."""
    return f"config/published/{study}.csv"


def worlds_file(study: str) -> str:
    """Return the file of what simulated worlds say of a study's claims; it may be absent."""
    return f"config/worlds/{study}.csv"


def data_folder(dataset: str) -> str:
    """Return the folder of a dataset, shared by all scales."""
    return f"results/data/{dataset}"


def data_file(dataset: str, name: str) -> str:
    """Return a file of a dataset."""
    return f"{data_folder(dataset)}/{name}"


def data_files(dataset: str) -> tuple[str, ...]:
    """Return the files of a dataset."""
    return tuple(data_file(dataset, name) for name in ("train.safetensors", "test.safetensors", "meta.json"))


def preprocessing_file(dataset: str, name: str, digest: str) -> str:
    """Return the file of what a preprocessing learns from a dataset, given the digest of its entry."""
    return data_file(dataset, f"preprocessing/{name}-{digest[:8]}.safetensors")


def kept_file(dataset: str, preprocessing: str) -> str:
    """Return the file by which DVC keeps what a preprocessing has learned: it belongs to no scale, so to no stage."""
    return f"prepared/{dataset}-{preprocessing}.dvc"


def model_file(scale: str, model: str, seed: int | str, name: str) -> str:
    """Return a file of a trained model."""
    return f"results/{scale}/models/{model}/seed-{seed}/{name}"


def attack_file(scale: str, model: str, seed: int | str, attack: str) -> str:
    """Return the file of an attack's rows."""
    return f"results/{scale}/attacks/{model}/seed-{seed}/{attack}.parquet"


def artifact_file(scale: str, study: str, artifact: str, suffix: str) -> str:
    """Return a file of a table or figure."""
    return f"results/{scale}/{study}/{artifact}.{suffix}"


def model_files(scale: str, model: str, seed: int | str) -> tuple[str, ...]:
    """Return the files of a trained model."""
    return tuple(model_file(scale, model, seed, name) for name in MODEL_FILES)


def artifact_files(scale: str, study: str, artifact: str, kind: str) -> tuple[str, ...]:
    """Return the files of a table or figure."""
    return tuple(artifact_file(scale, study, artifact, suffix) for suffix in SUFFIXES[kind])


def scorecard_files(scale: str) -> dict[str, str]:
    """Return the files of the scorecard, by the names of its command line."""
    names = {"scorecard": "scorecard.csv", "claims": "claims.csv", "metrics": "metrics.json"}
    return {key: f"results/{scale}/{name}" for key, name in names.items()}


def report_file(scale: str) -> str:
    """Return the page of the report."""
    return f"results/{scale}/report/index.html"


def report_files(scale: str) -> dict[str, str]:
    """Return what the report's job writes: the page, the same as data, and a summary of each paper."""
    folder = f"results/{scale}"
    return {"page": report_file(scale), "record": f"{folder}/results.json", "papers": f"{folder}/report/papers.md"}


@cache
def package_folder(top: str, source: Path = SOURCE) -> Path | None:
    """Return the folder that holds a top module or package: `source`, or wherever Python finds that of others."""
    if top in ("redoubt", OWN):
        return source
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return Path(spec.origin).parent if spec.has_location and spec.origin else None


def module_file(name: str, source: Path = SOURCE) -> Path | None:
    """Return the file of a module, given its full name, or None when there is none; nothing is imported.

    Args:
        name: such as `redoubt.attacks.fgs`.
        source: folder of our own package: `src`, or the copy of it that a run uses.
    """
    parts = name.split(".")
    if (folder := package_folder(parts[0], source)) is None:
        return None
    base = folder.joinpath(*parts)
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)
