"""Where a run finds its sources: in the folder of the user's project, in the checkout, or in the installed package.

A project is a folder with config/config.yaml; results are written there. A checkout is one. What a project has not of
rules, environments and code is taken from the package that runs.
"""

from pathlib import Path

from redoubt.errors import RedoubtError

CONFIG = "config/config.yaml"
PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = folder if (folder := PACKAGE / "project").is_dir() else PACKAGE.parents[1]
"""Where Snakefile, rules, profiles and the papers' config are: inside an installed package, else the checkout."""


def sources(root: Path) -> dict[str, Path]:
    """Return the folders that a run in `root` copies, by the places of the copies."""
    found = {name: own if (own := root / name).is_dir() else SHIPPED / name for name in ("config", "envs", "workflow")}
    return found | ({"src": root / "src"} if (root / "src/redoubt").is_dir() else {"src/redoubt": PACKAGE})


def misplaced(root: Path) -> str | None:
    """Return in one line why a run cannot start in `root`, or None."""
    if not (root / CONFIG).is_file():
        return f"{root.absolute()} has no {CONFIG}; run Snakemake where config and results are, or use `redoubt run`"
    if (root / "src/redoubt").is_dir() and not (root / "src/redoubt").samefile(PACKAGE):
        return f"{root.absolute()} is not the checkout whose code runs; run Snakemake in {SHIPPED}"
    return None


def root_above(start: Path) -> Path:
    """Return the project that a command works in: `start`, or the nearest folder above that is one, or the checkout.

    Raises:
        RedoubtError: there is none, and the package is installed.
    """
    found = next((folder for folder in (start, *start.parents) if (folder / CONFIG).is_file()), None)
    if found is None and not (SHIPPED / "src").is_dir():
        raise RedoubtError(f"{start}: no {CONFIG} here or above; `redoubt new project` makes one")
    return found or SHIPPED
