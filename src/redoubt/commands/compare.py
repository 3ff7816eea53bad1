"""Set two runs beside each other: cells that changed, and claims that turned.

  redoubt compare results/demo ../other/results/demo
  redoubt compare results/reference/paper results/paper --html comparison.html
  redoubt compare 5a41c0e:results/reference/paper results/reference/paper

A run is a folder with scorecard.csv and claims.csv, or one in a commit. A cell is byte-equal, value-equal (its numbers
are alike to a billionth), within the interval (its number lies in the 95 % interval of the other run, or the other's in
its), in one run, or outside. The exit code is 0 where no cell is outside, 1 where one is, 2 where a run cannot be read.
"""

import subprocess
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from redoubt.errors import RedoubtError

if TYPE_CHECKING:
    from redoubt.judging.comparison import Comparison, Run

FILES = ("scorecard.csv", "claims.csv")


def add(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("first", metavar="A", help="folder of a run, or COMMIT:FOLDER")
    parser.add_argument("second", metavar="B", help="the same, of the other run")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, equal cells too")
    parser.add_argument("--html", type=Path, metavar="FILE", help="page to write, which needs no other file")


def run(options: Namespace) -> int:
    """Print the comparison; return 1 where a cell is outside."""
    from redoubt.files import json_text, write_text
    from redoubt.judging.comparison import compare

    runs = read(options.first), read(options.second)
    found = compare(*runs)
    if options.html is not None:
        from redoubt.report.comparison import links, page

        first, second = (links(run, Path(run.name), options.html) for run in runs)
        write_text(options.html, page(found, (first, second)))
    print(json_text(found.model_dump(mode="json")) if options.json else text(found), end="")
    return int(found.counts["outside"] > 0)


def read(place: str) -> "Run":
    """Return the run in a folder, or in a folder of a commit.

    Raises:
        RedoubtError: there is none, or it is broken.
    """
    from redoubt.judging.comparison import Run

    commit, colon, folder = place.partition(":")
    if Path(place).is_dir() or not colon:
        return Run(Path(place), place)
    with tempfile.TemporaryDirectory() as temporary:
        for name in FILES:
            Path(temporary, name).write_bytes(_of_commit(commit, f"{folder.rstrip('/')}/{name}"))
        try:
            return Run(Path(temporary), place)
        except RedoubtError as error:
            raise RedoubtError(str(error).replace(temporary, place)) from None


def _of_commit(commit: str, path: str) -> bytes:
    line = ["git", "show", "--end-of-options", f"{commit}:{path}"]
    done = subprocess.run(line, capture_output=True, check=False)
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["git failed"])[-1]
        raise RedoubtError(f"{commit}:{path}: {reason.removeprefix('fatal: ')}")
    return done.stdout


def text(found: "Comparison") -> str:
    """Return a comparison as a plain table: cells whose numbers differ, and claims that turned."""
    from redoubt.judging.cells import shown
    from redoubt.report.tables import aligned

    counts = ", ".join(f"{count} {grade}" for grade, count in found.counts.items())
    lines = [f"A: {found.first}", f"B: {found.second}", f"{len(found.cells)} cells: {counts}"]
    rows = [["grade", "cell", "A", "B", "adaptive, A", "adaptive, B"]]
    for pair in found.changed:
        sides = [
            shown(pair.metric, getattr(side, name, None))
            for name in ("reproduced", "adaptive")
            for side in (pair.first, pair.second)
        ]
        rows.append([pair.grade, f"{pair.study}/{pair.artifact}[{pair.row}, {pair.column}]", *sides])
    lines += ["", *aligned(rows)] if len(rows) > 1 else []
    lines += ["", f"{len(found.claims)} claims turned"]
    claims = [["claim", "A", "B", "under strong attacks, A", "B"]]
    for claim in found.claims:
        here = [side.here for side in (claim.first, claim.second)]
        strong = [side.adaptive or "—" for side in (claim.first, claim.second)]
        claims.append([f"{claim.study}/{claim.claim}", *here, *strong])
    lines += ["", *aligned(claims)] if len(claims) > 1 else []
    return "\n".join(lines) + "\n"
