"""Write what the reference runs say of the papers' claims: docs/claims.md, and a table in README.md between its marks.

In prose a claim is named with its run and its verdict, as in `paper/deepdefense/claim-5` holds: the verdicts are those
of results/reference/<scale>/claims.csv, in the words of `WORDS`. `problems` finds claims that are named otherwise, and
those that the files contradict.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from redoubt.errors import RedoubtError, cli
from redoubt.files import write_text
from redoubt.judging.decided import Row, read, totals

REFERENCE = Path("results/reference")
PAGE, README = Path("docs/claims.md"), Path("README.md")
MARKS = "<!-- claims: written by `make format` -->\n", "<!-- claims: end -->\n"
WORDS = {"holds": "holds", "fails": "fails", "undecided": "is undecided", "not-run": "is not run"}
NAME = re.compile(r"\bclaims?[\s-]+\d\w*")
SPELT = re.compile(r"`(?P<scale>[\w-]+)/(?P<study>[\w-]+)/(?P<claim>claim-\w+)`\s+(?P<words>[\w-]+(?:\s+[\w-]+){0,2})")

HEAD = """# Claims

What the papers claim, and what the runs in [results/reference](../results/reference/README.md) say of it; written by
`make format` from their `claims.csv`. A claim holds when all of its checks do. "Printed" is the verdict of the same
checks on the numbers that the paper prints, where it prints them.
"""

Claims = dict[str, list[Row]]


def word(verdict: str) -> str:
    """Return a verdict as prose says it."""
    return WORDS.get(verdict, f"is {verdict}")


def claims(reference: Path = REFERENCE) -> Claims:
    """Return the rows of claims.csv by scale, the published set-up first."""
    files = sorted(reference.glob("*/claims.csv"), key=lambda file: (file.parent.name != "paper", file.parent.name))
    return {file.parent.name: totals(read(file)) for file in files}


def summary(found: Claims) -> str:
    """Return a line for each run of a study that decides any claim: which of them hold, and which do not."""
    lines = ["| run | verdict | claims |", "| --- | --- | --- |"]
    for scale, rows in found.items():
        for study in dict.fromkeys(row.study for row in rows):
            own: dict[str, list[str]] = {}
            for row in rows:
                if row.study == study and row.said != "not-run":
                    own.setdefault(row.said, []).append(row.claim.removeprefix("claim-"))
            for verdict in sorted(own, key=lambda name: (name != "holds", name)):
                lines.append(f"| `{scale}/{study}` | {word(verdict)} | {', '.join(own[verdict])} |")
    return "\n".join(lines) + "\n"


def page(found: Claims) -> str:
    """Return docs/claims.md: every claim, with a column for each run."""
    rows = {(row.study, row.claim, scale): row for scale, own in found.items() for row in own}
    text = HEAD
    for study in dict.fromkeys(study for study, _, _ in rows):
        columns = ["claim", "of the paper", "printed", *found]
        text += f"\n## {study}\n\n{_line(columns)}{_line(['---'] * len(columns))}"
        for claim in dict.fromkeys(claim for own, claim, _ in rows if own == study):
            known = {scale: rows[study, claim, scale] for scale in found if (study, claim, scale) in rows}
            first = next(iter(known.values()))
            verdicts = [known[scale].said if scale in known else "not-run" for scale in found]
            shown = ["–" if verdict == "not-run" else verdict for verdict in (first.published_verdict, *verdicts)]
            text += _line([claim, f"{first.statement} ({first.where})".replace("|", "\\|"), *shown])
    return text


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def filled(text: str, table: str) -> str:
    """Return a page with the table between its marks replaced.

    Raises:
        RedoubtError: the page has lost its marks.
    """
    begin, end = (text.find(mark) for mark in MARKS)
    if not 0 <= begin < end:
        raise RedoubtError(f"{README}: no lines {MARKS[0].strip()!r} and {MARKS[1].strip()!r} with the table between")
    return f"{text[: begin + len(MARKS[0])]}\n{table}\n{text[end:]}"


def problems(text: str, found: Claims) -> list[str]:
    """Return what is wrong with the claims that a text names: a spelling without a verdict, or another verdict."""
    spelt = list(SPELT.finditer(text))
    wrong = [
        f"{match.group()!r} has no verdict: write `scale/study/claim-1` holds (or {', '.join(sorted(WORDS.values()))})"
        for match in NAME.finditer(text)
        if not any(one.start() < match.start() < one.end() for one in spelt)
    ]
    for match in spelt:
        scale, study, claim, words = match.groups()
        verdicts = [row.said for row in found.get(scale, []) if (row.study, row.claim) == (study, claim)]
        if not verdicts:
            wrong.append(f"{scale}/{study}/{claim}: results/reference has no such claim")
        elif words.split()[: len(said := word(verdicts[0]).split())] != said:
            wrong.append(f"{scale}/{study}/{claim} {' '.join(words.split())!r}: its claims.csv says {verdicts[0]}")
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Write both."""
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    found = claims()
    write_text(PAGE, page(found))
    write_text(README, filled(README.read_text(encoding="utf-8"), summary(found)))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
