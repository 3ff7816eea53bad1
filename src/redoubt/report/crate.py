"""A run as an RO-Crate: `ro-crate-metadata.json`, which says what each file of a folder of results is.

Source: RO-Crate 1.1 (w3id.org/ro/crate/1.1) and its profile Process Run Crate 0.5 (w3id.org/ro/wfrun/process/0.5): the
drawing of each study is a `CreateAction` with the package as its instrument, datasets as objects and files as results.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redoubt.data import sources
from redoubt.judging.results import Results
from redoubt.layout import SUFFIXES

NAME = "ro-crate-metadata.json"
CRATE, PROFILE = "https://w3id.org/ro/crate/1.1", "https://w3id.org/ro/wfrun/process/0.5"
LICENCE = {"@id": "https://spdx.org/licenses/MIT", "@type": "CreativeWork", "name": "MIT License"}
DONE = "http://schema.org/CompletedActionStatus"
SHA256 = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
"""A term that the context of RO-Crate 1.1 lacks, as the profile has it."""
KINDS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
WHOLE = {
    "results.json": "Printed, reproduced and adaptive numbers, claims, gates, and where they come from",
    "scorecard.csv": "Every cell of every judged table",
    "claims.csv": "Claims, on all datasets, on each, and check by check",
    "metrics.json": "Verdicts counted, and our number of every cell",
    "report/index.html": "The report, one page that needs no network",
    "report/papers.md": "A reproducibility summary of each paper",
}
"""Files of a run beside those of artifacts."""

Entity = dict[str, Any]


def crate(
    found: Results, folder: Path, version: str, commit: str | None, authors: Sequence[str], source: str = ""
) -> Entity:
    """Return the metadata of a folder of results.

    Args:
        found: its results.json.
        folder: that holds it; files that are not there are left out.
        version: of the package.
        commit: of the checkout, None outside of one.
        authors: names of those who ran it.
        source: address of the package's code, empty where it has none.
    """
    datasets = {model.dataset for study in found.studies.values() for model in study.models.values()}
    people = [{"@id": f"#author-{number}", "@type": "Person", "name": name} for number, name in enumerate(authors, 1)]
    whole = [_file(folder, name, text) for name, text in WHOLE.items() if (folder / name).is_file()]
    drawn = {study: list(_drawn(found, study, folder)) for study in found.studies}
    files = [*whole, *(file for own in drawn.values() for file in own)]
    software = _software(version, commit, source)
    by = {"agent": _all(people), "instrument": _to(software)}
    actions = [_action(found, study, own, folder) | by for study, own in drawn.items() if own]
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Redoubt, scale {found.scale}: {', '.join(found.studies)}",
        "description": found.stamp,
        "datePublished": _time(folder / "results.json"),
        "license": _to(LICENCE),
        "author": _all(people),
        "conformsTo": {"@id": PROFILE},
        "hasPart": _all(files),
        "mentions": _all(actions),
    }
    about = {
        "@id": NAME,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": [{"@id": CRATE}, {"@id": PROFILE}],
    }
    profile = {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    data = [_dataset(name) for name in sorted(datasets)]
    graph = [about, root, profile, LICENCE, *people, software, *data, *actions, *files]
    return {"@context": [f"{CRATE}/context", SHA256], "@graph": graph}


def _to(entity: Entity) -> dict[str, str]:
    return {"@id": entity["@id"]}


def _all(entities: Sequence[Entity]) -> Any:
    """Return references to several entities, one alone without a list, as RO-Crate recommends."""
    return _to(entities[0]) if len(entities) == 1 else [_to(entity) for entity in entities]


def _time(path: Path) -> str:
    return datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat()


def _file(folder: Path, name: str, text: str) -> Entity:
    path = folder / name
    return {
        "@id": name,
        "@type": "File",
        "name": text,
        "encodingFormat": KINDS[path.suffix],
        "contentSize": str(path.stat().st_size),
    }


def _drawn(found: Results, study: str, folder: Path) -> Iterator[Entity]:
    for key, artifact in found.studies[study].artifacts.items():
        for suffix in SUFFIXES[artifact.kind]:
            if (folder / study / f"{key}.{suffix}").is_file():
                own: Entity = _file(folder, f"{study}/{key}.{suffix}", artifact.title)
                yield own | ({"sha256": artifact.sha256} if suffix == "csv" and artifact.sha256 else {})


def _action(found: Results, study: str, files: Sequence[Entity], folder: Path) -> Entity:
    own = found.studies[study]
    return {
        "@id": f"#run-{study}",
        "@type": "CreateAction",
        "name": f"Tables and figures of {own.title}",
        "description": f"Of {own.reference}; configuration {found.config}",
        "object": _all([_dataset(name) for name in sorted({model.dataset for model in own.models.values()})]),
        "result": _all(files),
        "endTime": max(_time(folder / file["@id"]) for file in files),
        "actionStatus": DONE,
    }


def _software(version: str, commit: str | None, source: str) -> Entity:
    facts = {"@id": source or "#redoubt", "@type": "SoftwareApplication", "name": "Redoubt", "softwareVersion": version}
    known = ({"identifier": f"git commit {commit}"} if commit else {}) | ({"url": source} if source else {})
    return facts | {"license": _to(LICENCE)} | known


def _dataset(name: str) -> Entity:
    title = sources.SOURCES[name].title if name in sources.SOURCES else name
    return {"@id": f"#data-{name}", "@type": "Dataset", "name": title, "identifier": name}
