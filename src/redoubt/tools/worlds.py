"""Simulate, for every claim, worlds in which all methods are equal, and worlds in which the printed numbers are true.

Prints the share of each in which the claim holds, at the numbers of images and runs of a scale; with --write also keeps
it in config/worlds/, which reports show, and writes docs/worlds.md from what is kept. Exit code 1 where a claim holds
in more than 5 % of null worlds, or in fewer than 80 % of the others and does not say what it leaves `open`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from redoubt.errors import RedoubtError, cli
from redoubt.files import write_text
from redoubt.judging import held
from redoubt.judging.held import Held
from redoubt.judging.simulated import rows
from redoubt.judging.tables import frame
from redoubt.layout import study_file, worlds_file
from redoubt.report.tables import aligned, markdown
from redoubt.study import catalog

PAGE = Path("docs/worlds.md")
TOP = """# Claims in simulated worlds

The share of simulated worlds in which each claim holds, at the numbers of images and runs of a scale. Written by
`make worlds` with the data, `config/worlds/<study>.csv`; reports show it beside the claims.

In a null world all numbers that a claim compares are equal but for sampling error; in a printed one the numbers that
the paper prints are true. A claim should hold in at most 5 % of the first and in at least 80 % of the second, unless it
says itself what it leaves `open`. [config/README.md](../config/README.md) explains claims; the model of images, methods
and runs is in `src/redoubt/judging/worlds.py`.

"""
HEAD = ("study", "claim", "null", "printed", "checks", "n", "runs", "scale", "worlds", "fit", "reason")


def table(found: Sequence[Held]) -> str:
    """Return rows as columns of text, shares as percents."""
    return "\n".join(aligned([HEAD, *map(_cells, found)]))


def page(found: Sequence[Held]) -> str:
    """Return the table as a page of Markdown."""
    return TOP + markdown(HEAD, map(_cells, found))


def _cells(row: Held) -> tuple[str, ...]:
    checks = f"{row.checks}" if row.simulated in (0, row.checks) else f"{row.simulated} of {row.checks}"
    sizes = ["—" if size is None else str(size) for size in (row.n, row.runs)]
    return row.study, row.claim, *row.shares.values(), checks, *sizes, row.scale, str(row.worlds), row.fit, row.reason


def write(root: Path, found: Sequence[Held]) -> None:
    """Write the file of each study, and the page of all of them."""
    for study in dict.fromkeys(row.study for row in found):
        own = frame(Held, [row for row in found if row.study == study])
        write_text(root / worlds_file(study), own.to_csv(index=False, lineterminator="\n"))
    studies = sorted(path.stem for path in (root / worlds_file("*")).parent.glob("*.csv"))
    write_text(root / PAGE, page(held.read(root, studies)))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="paper", help="scale whose numbers of images and runs are taken")
    parser.add_argument("--worlds", type=int, default=200, help="worlds of each kind")
    parser.add_argument("--write", action="store_true", help=f"keep it for reports, and write {PAGE}")
    parser.add_argument("--study", help="the only study to look at; all in config/studies when absent")
    options = parser.parse_args(argv)
    studies = sorted(path.parent.name for path in Path().glob(study_file("*", "study")))
    if options.study not in (None, *studies):
        raise RedoubtError(f"--study {options.study}: no such study; there are {', '.join(studies)}")
    found = catalog.load(".", {"scale": options.scale, "studies": [options.study] if options.study else studies})
    if options.worlds < 1:
        raise RedoubtError(f"--worlds {options.worlds}: at least one is needed")
    result = rows(found, Path("results") / options.scale, options.worlds)
    print(table(result))
    if options.write:
        write(Path(), result)
    return int(any(row.fit in ("vacuous", "powerless") for row in result))


if __name__ == "__main__":
    sys.exit(cli(main))
