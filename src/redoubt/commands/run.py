"""Make tables, figures and the report of a scale, or some of them.

  redoubt run                                       everything at the project's scale, ending with the report
  redoubt run deepdefense                           all tables and figures of a study
  redoubt run results/demo/deepdefense/table-1.csv  one table, and only what it needs
  redoubt run -n                                    what would run
  redoubt run --profile slurm                       on a cluster, see docs/cluster.md

It is Snakemake with the right Snakefile and profile, from any folder of a project; everything else that is given goes
to Snakemake as it is. Paths are relative to the project.
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path

from redoubt.commands import _project
from redoubt.errors import RedoubtError
from redoubt.graph import warm
from redoubt.graph.project import SHIPPED


def add(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    _project.add_scale(parser)
    parser.add_argument("--cores", default="all", help="at a time; all by default")
    parser.add_argument("--profile", help="slurm, or a folder with a profile of Snakemake: where jobs run")
    parser.usage = "redoubt run [--scale SCALE] [--cores CORES] [--profile PROFILE] [targets and options of Snakemake]"


def run(options: Namespace) -> int:
    """Run Snakemake and return its exit code."""
    given = profile(options.profile) if options.profile else None
    _project.enter()
    if find_spec("snakemake") is None:
        raise ModuleNotFoundError("no module named snakemake", name="snakemake")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    os.environ.setdefault("PYTHONUTF8", "1")
    return warm.main(command(options, given))


def profile(name: str) -> Path:
    """Return the folder of a profile: one of ours by its name, or the user's.

    Raises:
        RedoubtError: it has no profile.
    """
    folder = own if (own := SHIPPED / "profiles" / name).is_dir() else Path(name).absolute()
    if not any((folder / file).is_file() for file in ("profile.yaml", "config.yaml")):
        known = sorted(path.name for path in (SHIPPED / "profiles").iterdir() if path.name != "default")
        raise RedoubtError(f"--profile: {name!r} is not one of {', '.join(known)}, and no folder with profile.yaml")
    return folder


def command(options: Namespace, given: Path | None) -> list[str]:
    """Return the command line of Snakemake."""
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(SHIPPED / "Snakefile")]
    line += ["--workflow-profile", str(SHIPPED / "profiles/default")]
    line += ["--profile", str(given)] if given else ["--cores", options.cores]
    rest = list(options.rest)
    if options.scale:
        place = rest.index("--config") + 1 if "--config" in rest else len(rest)
        rest[place:place] = [f"scale={options.scale}"] if place < len(rest) else ["--config", f"scale={options.scale}"]
    return [*line, *rest]
