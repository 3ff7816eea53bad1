"""Write what the reference runs say of the papers' claims: docs/claims.md, and a table in README.md between its marks.

In prose a claim is named with its run and its verdict, as in `paper/deepdefense/claim-5` holds: the verdicts are those
of results/reference/<scale>/claims.csv, in the words of `WORDS`. `problems` finds claims that are named otherwise, and
those that the files contradict.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from redoubt.errors import RedoubtError, cli
from redoubt.files import write_text
from redoubt.judging.claims import ALL, Verdict
from redoubt.judging.decided import Row, read, totals, unattacked
from redoubt.report.tables import markdown
from redoubt.study import catalog

REFERENCE = Path("results/reference")
PAGE, README = Path("docs/claims.md"), Path("README.md")
MARKS = "<!-- claims: written by `make format` -->\n", "<!-- claims: end -->\n"
WORDS = {"holds": "holds", "fails": "fails", "undecided": "is undecided", "not-run": "is not run"}
NAME = re.compile(r"\bclaims?[\s-]+\d\w*")
SPELT = re.compile(r"`(?P<scale>[\w-]+)/(?P<study>[\w-]+)/(?P<claim>claim-\w+)`\s+(?P<words>[\w-]+(?:\s+[\w-]+){0,2})")
EARLIER = "†"  # beside a verdict on a claim that has been worded otherwise since

HEAD = f"""# Claims

What the papers claim, and what the runs in [results/reference](../results/reference/README.md) say of it; written by
`make format` from their `claims.csv`. A claim holds when all of its checks do. "Printed" is the verdict of the same
checks on the numbers that the paper prints, where it prints them; "strong attacks" is the verdict on what is left
under them ([adaptive.md](adaptive.md)). A run without a dataset was judged by rules that had none; {EARLIER}: by an
earlier wording of the claim. Runs that are not named did not run it.
"""

Claims = dict[str, list[Row]]
Key = tuple[str, str]  # study and claim


@dataclass(frozen=True)
class Known:
    """A claim as the studies word it today."""

    title: str
    statement: str
    where: str
    bare: frozenset[str] = frozenset()  # datasets on which no number is under an attack


def word(verdict: str) -> str:
    """Return a verdict as prose says it."""
    return WORDS.get(verdict, f"is {verdict}")


def claims(reference: Path = REFERENCE) -> Claims:
    """Return the rows of claims.csv, less those of checks, by scale; the published set-up is first."""
    files = sorted(reference.glob("*/claims.csv"), key=lambda file: (file.parent.name != "paper", file.parent.name))
    return {file.parent.name: [row for row in read(file) if not row.check] for file in files}


def known(root: Path = Path()) -> dict[Key, Known]:
    """Return all claims of the studies of config/config.yaml, in their order."""
    found = catalog.load(root, {"scale": "paper"}, environment={})
    titles = {(name, key): claim.title for name, study in found.studies.items() for key, claim in study.claims.items()}
    return {
        key: Known(titles[key], claim.statement, claim.where, frozenset(unattacked(claim.checks)))
        for key, claim in found.claims.items()
    }


@dataclass(frozen=True)
class Said:
    """What one run says of a claim, on one dataset or on all."""

    run: str
    row: Row
    earlier: bool  # of another wording than today's
    bare: frozenset[str]  # datasets on which no number is under an attack, by today's wording

    @property
    def ours(self) -> str:
        """The verdict on our numbers, with the dataset."""
        on = "" if self.row.dataset == ALL else f" on {self.row.dataset}"
        return f"{self.row.said}{on}{EARLIER if self.earlier else ''}"

    @property
    def adaptive(self) -> str:
        """The verdict on what is left under strong attacks; files of earlier runs have one without any attack too."""
        bare = self.row.dataset in self.bare and not self.earlier
        return _verdict(None if bare else self.row.adaptive_verdict)


def said(found: Claims, claim: Key, now: Known) -> list[Said]:
    """Return what the runs that decide a claim say of it: for each dataset, or for all where a run names none."""
    result = []
    for run, rows in found.items():
        own = [row for row in rows if (row.study, row.claim) == claim]
        parts = [row for row in own if row.dataset != ALL] or own
        result += [Said(run, row, row.statement != now.statement, now.bare) for row in parts if row.said != "not-run"]
    return result


def printed(found: Claims, claim: Key, now: Known) -> str:
    """Return the verdict on the printed numbers, as a run with today's wording has it; else any run."""
    own = [row for rows in found.values() for row in totals(rows) if (row.study, row.claim) == claim]
    own.sort(key=lambda row: row.statement != now.statement)
    return next((shown for row in own if (shown := _verdict(row.published_verdict)) != "–"), "–")


def strongest(found: Sequence[Said]) -> list[Said]:
    """Return one verdict for each dataset: of today's wording if any, then of most images, then the first.

    What a run without datasets says counts where no other decides the claim.
    """
    best: dict[str, Said] = {}
    for one in sorted(reversed(found), key=_weight):
        best[one.row.dataset] = one
    order = dict.fromkeys(one.row.dataset for one in found)
    return [best[dataset] for dataset in order if dataset != ALL or len(best) == 1]


def _weight(one: Said) -> tuple[bool, int]:
    return not one.earlier, one.row.n or 0


def _verdict(verdict: Verdict | None) -> str:
    return "–" if verdict in (None, "not-run", "not-comparable") else str(verdict)


def summary(found: Claims, now: Mapping[Key, Known]) -> str:
    """Return a line for each claim that a run decides: on printed numbers, on ours, under strong attacks."""
    rows = []
    for (study, key), claim in now.items():
        for one in strongest(said(found, (study, key), claim)):
            name = f"{key.removeprefix('claim-')}. {claim.title or claim.statement}"
            paper = printed(found, (study, key), claim)
            rows.append([f"`{study}`", name, paper, one.ours, one.adaptive, f"`{one.run}`"])
    return markdown(["study", "claim", "printed", "reproduced", "under strong attacks", "run"], rows)


def page(found: Claims, now: Mapping[Key, Known]) -> str:
    """Return docs/claims.md: every claim, with what each run says of it."""
    tables: dict[str, list[list[str]]] = {}
    for (study, key), claim in now.items():
        ones, paper = said(found, (study, key), claim), printed(found, (study, key), claim)
        ours = "; ".join(f"`{one.run}`: {one.ours}" for one in ones) or "–"
        strong = "; ".join(f"`{one.run}`: {one.adaptive}" for one in ones if one.adaptive != "–") or "–"
        row = [key, f"{claim.statement} ({claim.where})", paper, ours, strong]
        tables.setdefault(study, []).append(row)
    columns = ["claim", "of the paper", "printed", "ours", "strong attacks"]
    return HEAD + "".join(f"\n## {study}\n\n{markdown(columns, rows)}" for study, rows in tables.items())


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
        rows = totals(found.get(scale, []))
        verdicts = [row.said for row in rows if (row.study, row.claim) == (study, claim)]
        if not verdicts:
            wrong.append(f"{scale}/{study}/{claim}: results/reference has no such claim")
        elif words.split()[: len(said := word(verdicts[0]).split())] != said:
            wrong.append(f"{scale}/{study}/{claim} {' '.join(words.split())!r}: its claims.csv says {verdicts[0]}")
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Write both."""
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    found, now = claims(), known()
    write_text(PAGE, page(found, now))
    write_text(README, filled(README.read_text(encoding="utf-8"), summary(found, now)))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
