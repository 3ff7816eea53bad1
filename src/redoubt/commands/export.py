"""Write a finished run in the forms that others read.

  redoubt export crate --author "A. Name"    ro-crate-metadata.json beside the results: an RO-Crate of the run
  redoubt export papers                      a reproducibility summary of each paper, a Markdown file for each
  redoubt export defenses                    trained defenses as AutoAdvExBench takes them, a folder for each study

All read results/<scale>/results.json, which `redoubt run` writes beside the report.
"""

import subprocess
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from redoubt.commands import _project
from redoubt.errors import RedoubtError

if TYPE_CHECKING:
    from redoubt.judging.results import Results

AUTHORS = "The Redoubt authors"
PACKAGE = (
    *("pyproject.toml", "README.md", "LICENSE", "Snakefile"),
    *("src/redoubt", "config", "envs", "profiles", "workflow"),
)
"""What pip needs to install the package, from the folder of the checkout."""


def add(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("what", choices=list(FORMS), help="crate, papers or defenses")
    _project.add_scale(parser)
    parser.add_argument("--out", type=Path, help="folder to write; the results' own, or one below it")
    parser.add_argument("--author", action="append", help="of a crate: who ran it; may be given several times")
    parser.add_argument("--source", default="", help="of a crate or defenses: address of the code")


def run(options: Namespace) -> int:
    """Write what is asked for and print where."""
    given = options.out.absolute() if options.out else None
    root = _project.enter()
    folder = root / "results" / _project.scale_of(options, root)
    found = read(folder / "results.json")
    for path in FORMS[options.what](found, folder, given, options):
        print(path)
    return 0


def read(path: Path) -> "Results":
    """Return a run's results.json.

    Raises:
        RedoubtError: there is none, or it is not what this version writes.
    """
    from redoubt.files import read_json
    from redoubt.judging.results import Results
    from redoubt.records import typed

    if not path.is_file():
        raise RedoubtError(f"{path}: no results yet; `redoubt run --scale {path.parent.name}` makes them")
    return typed(Results, read_json(path), str(path))


def crate(found: "Results", folder: Path, given: Path | None, options: Namespace) -> Iterator[Path]:
    """Write the metadata of the results' folder."""
    import redoubt
    from redoubt.files import json_text, write_text
    from redoubt.report import crate as form

    if given is not None:
        raise RedoubtError("--out: the metadata of a crate lie in the folder that they describe")
    made = form.crate(found, folder, redoubt.__version__, commit(), options.author or [AUTHORS], options.source)
    write_text(folder / form.NAME, json_text(made))
    yield folder / form.NAME


def commit() -> str | None:
    """Return the commit of the checkout in the working directory; None outside of one."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def papers(found: "Results", folder: Path, given: Path | None, options: Namespace) -> Iterator[Path]:
    """Write a reproducibility summary of each paper."""
    from redoubt.files import write_text
    from redoubt.report.reproducibility import page

    for study in found.studies:
        write_text(path := (given or folder / "papers") / f"{study}.md", page(found, study))
        yield path


def defenses(found: "Results", folder: Path, given: Path | None, options: Namespace) -> Iterator[Path]:
    """Write the defenses that AutoAdvExBench can take, with weights and package.

    Raises:
        RedoubtError: there is none, or this is no checkout.
    """
    from redoubt.files import write_text
    from redoubt.report.benchmark import DATASETS, files, fitting

    studies = [study for study, own in found.studies.items() if fitting(own)]
    if not studies:
        raise RedoubtError(f"{folder}: no trained defense on {', '.join(DATASETS)}, which AutoAdvExBench has")
    for study in studies:
        out = (given or folder / "autoadvexbench") / study
        for name, text in files(found, study, options.source):
            write_text(out / name, text)
        for model, seed in fitting(found.studies[study]).items():
            _copy_model(folder / "models" / model / f"seed-{seed}", out / "weights" / model)
        _copy_package(out / "redoubt")
        yield out


def _copy_model(trained: Path, out: Path) -> None:
    from redoubt.files import entry_digest, read_json, write_all
    from redoubt.layout import preprocessing_file

    facts = read_json(trained / "model.json")
    entry = facts["entry"]["preprocessing"]
    learned = Path(preprocessing_file(facts["data"]["name"], entry["name"], entry_digest(entry)))
    names = {"weights.safetensors": trained, "model.json": trained}
    files = {out / name: place / name for name, place in names.items()} | {out / "preprocessing.safetensors": learned}
    for path in files.values():
        if not path.is_file():
            raise RedoubtError(f"{path}: no such file; run the step that makes it")
    write_all({path: source.read_bytes() for path, source in files.items()})


def _copy_package(out: Path) -> None:
    import shutil

    from redoubt.layout import SOURCE

    for name in PACKAGE:
        path = SOURCE.parent / name
        if path.is_dir():
            shutil.copytree(path, out / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.is_file():
            out.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / name)
        else:
            raise RedoubtError(f"{path}: not there; defenses are exported from a checkout")


FORMS = {"crate": crate, "papers": papers, "defenses": defenses}
