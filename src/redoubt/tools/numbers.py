"""Trace the numbers of prose to files: name every one that no file of its part of the page holds.

Pages are README.md, docs/ and results/reference/README.md, without those that tools write. What is traced: numbers
before a unit of `UNITS` (all of a list, as in `7, 89 and 100 %`), both sides of → and ±, and cells of tables that hold
numbers alone, but for the first column. Each must be, as rounded, in a file of results/reference or benchmarks/results
that its part of the page links to (of a table its CSV), or in one that a comment names, with * and folders, from the
root: `<!-- from: results/reference/paper/deepdefense/table-1.csv -->`. A part begins at a heading and at such a
comment; one before the first heading is for the whole page. A percentage may be a fraction there, minutes and hours may
be seconds. What is computed says how, from numbers that are traced: `<!-- derived: 4.9 = 93.3 - 88.4 -->`.
"""

import argparse
import csv
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from redoubt.errors import RedoubtError, cli

PAGES = ("README.md", "docs/**/*.md", "results/reference/README.md")
WRITTEN = re.compile(r"writes this page|written by\s+`make", re.IGNORECASE)
HEAD = 12  # lines at the top of a page in which it says that a tool has written it
LEVEL = re.compile(r"9[05] % intervals?")  # what an interval is called, not a result
READ = (".csv", ".json", ".md", ".yaml", ".py", ".txt")
DRAWN = (".md", ".png", ".svg")
VALUES = (
    "published",
    "published_std",
    "reproduced",
    "std",
    "std_repetitions",
    "adaptive",
    "adaptive_low",
    "adaptive_high",
    "optimality",
)
"""Columns of cells that prose quotes."""
RESULTS = ("results/reference", "benchmarks/results")

NUMBER = r"(?<![\w.,/^-])(?:\d{1,3}(?:[ \u202f]\d{3})+|\d+)(?:\.\d+)?(?:e-?\d+)?"
UNITS = r"%|points?\b|times\b|ms\b|s\b|seconds?\b|minutes?\b|hours?\b|images/s"
BETWEEN = r"\s*(?:→|±|–|/|,|,?\s*and\b|to\b|or\b|against\b)\s*"
LIST = re.compile(rf"{NUMBER}(?:{BETWEEN}{NUMBER})*\s*(?P<unit>{UNITS})")
PAIR = re.compile(rf"{NUMBER}(?:\s*(?:→|±)\s*{NUMBER})+")
ONLY = re.compile(rf"(?:{NUMBER}|{UNITS}|→|±|–|/|[\s*+−()-])+")
COMMENT = re.compile(r"<!--\s*(from|derived):\s*(.*?)\s*-->", re.DOTALL)
LINK = re.compile(r"!?\[([^\]]*)\]\(([^)\s#]*)[^)]*\)")
FOUND = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w])")
EQUATION = re.compile(rf"({NUMBER}) = ({NUMBER}) ([-+*/]) ({NUMBER})")
SECONDS = {"ms": 1e-3, "minute": 60.0, "hour": 3600.0}


@dataclass(frozen=True)
class Said:
    """A number that a page says, as it is written, with its unit."""

    text: str
    unit: str
    line: int

    @property
    def value(self) -> float:
        """The number."""
        return float(re.sub(r"\s", "", self.text))

    @property
    def half(self) -> float:
        """Half a unit of its last digit."""
        digits, _, exponent = re.sub(r"\s", "", self.text).partition("e")
        return float(0.5 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2])))

    def spellings(self) -> Iterator[tuple[float, float]]:
        """Yield what may be in a file in its place, each with how far it may be off."""
        value, half = self.value, self.half
        yield value, half
        if self.unit == "%":
            yield value / 100, half / 100
        factor = SECONDS.get(self.unit.rstrip("s") if self.unit != "ms" else "ms")
        if factor:
            yield value * factor, half * factor


@dataclass(frozen=True)
class Section:
    """A part of a page that names its files.

    Attributes:
        line: its first.
        text: without code.
        sources: files and folders that it names.
        derived: equations.
    """

    line: int
    text: str
    sources: tuple[Path, ...]
    derived: tuple[tuple[str, ...], ...]


def pages(root: Path) -> list[Path]:
    """Return the pages that people write."""
    files = [path for pattern in PAGES for path in sorted(root.glob(pattern))]
    heads = {path: re.sub(r"<!--.*?-->", "", "\n".join(_text(path).splitlines()[:HEAD])) for path in files}
    return [path for path, head in heads.items() if not WRITTEN.search(head)]


def problems(root: Path, page: Path) -> list[str]:
    """Return a line for each number of a page that no file of its part holds.

    Raises:
        RedoubtError: a source is not there, or what is said to be computed comes to something else.
    """
    lines = []
    name = page.relative_to(root)
    for section in sections(root, page):
        known = numbers(section.sources)
        derived = dict(_derived(f"{name}:{section.line}", section, known))
        for said in quoted(section):
            if not traced(said, known) and said.text not in derived:
                named = ", ".join(str(path.relative_to(root)) for path in section.sources)
                where = f"not in {named}" if named else "not in any file, since none is named"
                lines.append(f"{name}:{said.line}: {f'{said.text} {said.unit}'.strip()}: {where}")
    return lines


def sections(root: Path, page: Path) -> list[Section]:
    """Return the parts of a page, with the files that each names; those of the part before all headings go to all.

    Raises:
        RedoubtError: a source is not there.
    """
    text = _without_code(_text(page))
    starts = [0, *(match.start() for match in re.finditer(r"^(?:#+ |<!-- from:)", text, re.MULTILINE)), len(text)]
    shared: tuple[Path, ...] = ()
    found = []
    for begin, end in pairwise(starts):
        part, line = text[begin:end], text.count("\n", 0, begin) + 1
        own = tuple(dict.fromkeys([*_commented(root, page, part), *_linked(root, page, part)]))
        if not re.search(r"^#+ ", text[:end], re.MULTILINE):
            shared += tuple(_commented(root, page, part))
        equations = tuple(EQUATION.findall(" ".join(body for kind, body in COMMENT.findall(part) if kind == "derived")))
        found.append(Section(line, part, (*shared, *own), equations))
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _without_code(text: str) -> str:
    """Return a page without code and without tables that tools write, every line in its place."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match.group().count("\n")

    text = re.sub(r"^```.*?^```", blank, text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!-- (\w+)?:? ?written by.*?<!-- [^>]*end -->", blank, text, flags=re.DOTALL)
    text = re.sub(r"(?<=\n\n)(?: {4}.*\n)+", blank, text)
    return re.sub(r"`[^`\n]*`", " ", text)


def _commented(root: Path, page: Path, part: str) -> Iterator[Path]:
    for kind, body in COMMENT.findall(part):
        for pattern in body.replace(",", " ").split() if kind == "from" else []:
            files = sorted(root.glob(pattern))
            if not files:
                raise RedoubtError(f"{page.relative_to(root)}: from: {pattern}: no such file")
            yield from files


def _linked(root: Path, page: Path, part: str) -> Iterator[Path]:
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s#]*)", part):
        if not target or re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / target).resolve()
        table = path.with_suffix(".csv")
        if path.suffix in DRAWN and table.is_file():
            yield table
        elif any(path.is_relative_to(root / folder) for folder in RESULTS) and path.name != "README.md":
            yield path


def numbers(sources: Iterable[Path]) -> list[float]:
    """Return the numbers in files, and in the tables and JSON files of folders, ascending."""
    found: set[float] = set()
    for path in sources:
        files = sorted(each for end in ("csv", "json") for each in path.rglob(f"*.{end}")) if path.is_dir() else [path]
        for file in files:
            if file.suffix in READ:
                found |= _in_file(file)
    return sorted(found)


@cache
def _in_file(file: Path) -> frozenset[float]:
    text = _text(file)
    if file.suffix == ".csv":
        rows = list(csv.DictReader(text.splitlines()))
        columns = [name for name in VALUES if rows and name in rows[0]]
        if "reproduced" in columns:
            text = " ".join(row[name] for row in rows for name in columns)
    elif file.suffix in (".md", ".py"):
        text = re.sub(r"(?<=\d)[ \u202f_](?=\d{3}\b)", "", text)
    return frozenset(abs(float(text)) for text in FOUND.findall(text))


def quoted(section: Section) -> Iterator[Said]:
    """Yield the numbers of a section that must be traced."""
    heads: list[str] = []
    for at, line in enumerate(_paragraphs(section.text), section.line):
        if not line.lstrip().startswith("|"):
            heads = []
            yield from _of_prose(line, at)
        elif not heads:
            heads = _cells(line)
        else:
            yield from _of_row(heads, _cells(line), at)


def _cells(line: str) -> list[str]:
    return line.strip().strip("|").split("|")


def _paragraphs(text: str) -> list[str]:
    """Return the lines of a text without comments and targets of links; a list that is wrapped is joined."""
    text = re.sub(r"<!--.*?-->", lambda match: "\n" * match.group().count("\n"), text, flags=re.DOTALL)
    text = LEVEL.sub("interval", text)
    lines = LINK.sub(lambda match: match.group(1), text).split("\n")
    for at in range(len(lines) - 1, 0, -1):
        above = lines[at - 1]
        if re.search(r"(?:\d|,|and|to|→|±|/)$", above) and re.match(rf"(?:{NUMBER}|{UNITS}|and\b)", lines[at]):
            lines[at - 1], lines[at] = f"{above} {lines[at]}", ""
    return lines


def _of_prose(line: str, at: int) -> Iterator[Said]:
    seen: list[tuple[int, int]] = []
    for pattern in (LIST, PAIR):
        for match in pattern.finditer(line):
            if not any(begin <= match.start() < end for begin, end in seen):
                seen.append(match.span())
                unit = match.groupdict().get("unit") or ""
                yield from (Said(text, unit, at) for text in re.findall(NUMBER, match.group()))


def _of_row(heads: list[str], cells: list[str], at: int) -> Iterator[Said]:
    for head, cell in list(zip(heads, cells, strict=False))[1:]:
        if not ONLY.fullmatch(cell):
            yield from _of_prose(cell, at)
            continue
        units = re.findall(UNITS, cell) or re.findall(rf", ({UNITS})", head)
        yield from (Said(text, units[0] if units else "", at) for text in re.findall(NUMBER, cell))


def traced(said: Said, known: Sequence[float]) -> bool:
    """Return whether a number is among those of files, as rounded."""
    return any(abs(value - target) <= off * (1 + 1e-6) + 1e-12 for target, off in said.spellings() for value in known)


def _derived(where: str, section: Section, known: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Yield what a section computes from numbers that are traced.

    Raises:
        RedoubtError: one of them is not traced, or it comes to something else.
    """
    for result, left, sign, right in section.derived:
        for text in (left, right):
            if text != "100" and not traced(Said(text, "%", section.line), known):
                raise RedoubtError(f"{where}: derived: {text} is in no file that its part names")
        one, other = Said(left, "", 0).value, Said(right, "", 0).value
        value = {"+": one + other, "-": one - other, "*": one * other, "/": one / (other or float("nan"))}[sign]
        said = Said(result, "", 0)
        zeros = len(re.sub(r"\s", "", result)) - len(re.sub(r"\s", "", result).rstrip("0")) if "." not in result else 0
        if not abs(value - said.value) <= said.half * 10**zeros * (1 + 1e-6):
            raise RedoubtError(f"{where}: derived: {left} {sign} {right} is {value:g}, not {result}")
        yield result, value


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is not traced; return 1 where there is anything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(), help="folder of the repository")
    root = parser.parse_args(argv).root.resolve()
    found = [line for page in pages(root) for line in problems(root, page)]
    print("\n".join(found) or "every number of the pages is in a file that its part of the page names")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(cli(main))
