"""Draw the rooms of the package and their imports: docs/architecture.svg, and the table in docs/architecture.md.

A room is a package directly under `redoubt`; the modules beside them are the ground floor. An import counts whether it
is plain or waits (`lazy("redoubt...")`). Each room stands on a floor of `FLOORS`, and imports from lower floors only.
"""

import ast
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from redoubt import registry
from redoubt.errors import RedoubtError, cli
from redoubt.files import write_text
from redoubt.graph.code import imported

SOURCE = Path(__file__).resolve().parents[1]
PICTURE = Path("docs/architecture.svg")
PAGE = Path("docs/architecture.md")
MARKS = ("<!-- written by redoubt.tools.architecture -->\n", "<!-- end -->\n")
GROUND = "ground floor"
FLOORS = (
    (GROUND,),
    ("metrics", "data", "preprocessing"),
    ("study", "networks"),
    ("graph", "models", "attacks"),
    ("judging", "probes", "defenses", "engines"),
    ("artifacts", "training"),
    ("evaluation",),
    ("report", "cost"),
    ("steps",),
    ("tools",),
    ("commands",),
)

STEP, WIDTH, HEIGHT, GAP = 150, 116, 36, 84  # between columns; a box; between floors
METHODS, OTHERS, LINE, FAINT = "#dcebf7", "#f6efdf", "#4d5b6a", "#f7f8fa"


@cache
def modules(source: Path = SOURCE) -> dict[str, frozenset[str]]:
    """Return for every module of the package the modules that it imports, by dotted name."""
    files = {}
    for file in sorted(source.rglob("*.py")):
        parts = (source.name, *file.relative_to(source).with_suffix("").parts)
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    trees = {name: (ast.parse(file.read_bytes()), file.name == "__init__.py") for name, file in files.items()}
    del trees[source.name]  # it offers users what modules of any floor have
    return {
        name: frozenset(set(imported(name, *tree)) & set(files) - {name, source.name}) for name, tree in trees.items()
    }


def room(module: str, source: Path = SOURCE) -> str:
    """Return the room of a module given by its dotted name."""
    part = module.split(".")[1] if "." in module else ""
    return part if (source / part / "__init__.py").exists() and part else GROUND


def arrows(source: Path = SOURCE) -> dict[str, set[str]]:
    """Return for every room the other rooms that its modules import."""
    found: dict[str, set[str]] = {}
    for name, others in modules(source).items():
        own = room(name, source)
        found.setdefault(own, set()).update(room(other, source) for other in others)
    return {name: others - {name} for name, others in sorted(found.items())}


def problems(source: Path = SOURCE) -> list[str]:
    """Return one line for every room without a floor, every import that does not run downward, and every cycle."""
    floors = {name: number for number, names in enumerate(FLOORS) for name in names}
    lines = [
        f"{name}: this room is on no floor (FLOORS in tools/architecture.py)"
        for name in arrows(source)
        if name not in floors
    ]
    for name, others in modules(source).items():
        own = room(name, source)
        for other in sorted(others):
            goal = room(other, source)
            if goal != own and floors.get(goal, -1) >= floors.get(own, len(FLOORS)):
                lines.append(f"{name} imports {other}: not on a lower floor")
    return lines + [f"{' -> '.join(cycle)}: imports run in a circle" for cycle in cycles(modules(source))]


def cycles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the circles that a walk over a graph finds, each once, as lists that end where they begin."""
    found: list[list[str]] = []
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            path.append(name)
            for other in sorted(graph.get(name, ())):
                visit(other)
            done.add(path.pop())

    for name in graph:
        visit(name)
    return found


def reach(graph: Mapping[str, Iterable[str]], name: str) -> set[str]:
    """Return all that can be reached from a name, itself left out where there is no circle."""
    seen, todo = set(), list(graph[name])
    while todo:
        if (other := todo.pop()) not in seen:
            seen.add(other)
            todo.extend(graph[other])
    return seen


def drawn(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the arrows that no longer way implies, without those to the ground floor."""
    above = {name: others - {GROUND} for name, others in graph.items() if name != GROUND}
    return [
        (name, other)
        for name, others in above.items()
        for other in sorted(others)
        if not any(other in reach(above, between) for between in others - {other})
    ]


def _rows(graph: dict[str, set[str]]) -> tuple[list[list], list[tuple]]:
    """Return the floors from the top, with a place kept in each for every arrow that passes, and arrows in pieces."""
    height = {name: number for number, names in enumerate(FLOORS) for name in names if name in graph}
    rows: list[list] = [[name for name in names if name in graph] for names in FLOORS[1:]]
    pieces = []
    for name, other in drawn(graph):
        passing = [(name, other, floor) for floor in range(height[name] - 1, height[other], -1)]
        for place in passing:
            rows[place[2] - 1].append(place)
        pieces += [(above, below, (name, other)) for above, below in pairwise([name, *passing, other])]
    return rows[::-1], pieces


def _columns(rows: list[list], pieces: list[tuple]) -> dict:
    """Return the column of every place: near the mean of its neighbours, in the best of some sweeps down and up."""
    near: dict = {}
    for above, below, _ in pieces:
        near.setdefault(above, []).append(below)
        near.setdefault(below, []).append(above)
    column = {place: float(index) for row in rows for index, place in enumerate(row)}
    best, least = dict(column), _cost(rows, pieces, column)
    for turn in range(60):
        for row in rows if turn % 2 else rows[::-1]:
            mean = {place: fmean(column[other] for other in near.get(place, [place])) for place in row}
            column |= _apart(sorted(row, key=lambda place: (mean[place], str(place))), mean)
        if (cost := _cost(rows, pieces, column)) < least:
            best, least = dict(column), cost
    left = min(best.values())
    return {place: at - left for place, at in best.items()}


def _apart(places: list, wanted: dict) -> dict:
    """Return columns near the wanted ones in the given order: boxes 1 apart, a passing arrow 0.7 from a box."""
    size = [1.0 if isinstance(place, str) else 0.4 for place in places]
    gaps = [(one + other) / 2 for one, other in pairwise(size)]
    right, left = [wanted[place] for place in places], [wanted[place] for place in places]
    for index, gap in enumerate(gaps):
        right[index + 1] = max(right[index + 1], right[index] + gap)
    for index in reversed(range(len(gaps))):
        left[index] = min(left[index], left[index + 1] - gaps[index])
    return {place: (one + other) / 2 for place, one, other in zip(places, left, right, strict=True)}


def _cost(rows: list[list], pieces: list[tuple], column: dict) -> float:
    """Return how many arrows cross, plus a little for their slant."""
    floor = {place: number for number, row in enumerate(rows) for place in row}
    lines = [(floor[above], column[above], column[below]) for above, below, _ in pieces]
    crossed = sum(
        a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0 for index, a in enumerate(lines) for b in lines[:index]
    )
    return crossed + sum(abs(a - b) for _, a, b in lines) / 10


def picture(source: Path = SOURCE) -> str:
    """Return the picture of the rooms as SVG: the top floor first, the ground floor under all."""
    graph = arrows(source)
    rows, pieces = _rows(graph)
    column = _columns(rows, pieces)
    x = {place: 24 + WIDTH / 2 + at * STEP for place, at in column.items()}
    y = {place: 20 + number * GAP for number, row in enumerate(rows) for place in row}
    width, base = round(max(x.values()) + WIDTH / 2 + 24), 20 + len(rows) * GAP
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {base + 96}" width="{width}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="14" text-anchor="middle">',
        "<title>Rooms of Redoubt and their imports</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{width}" height="{base + 96}" fill="#ffffff"/>',
    ]
    out += [
        f'<rect x="8" y="{12 + n * GAP}" width="{width - 16}" height="52" rx="6" fill="{FAINT}"/>'
        for n in range(len(rows))
    ]
    for name, other in drawn(graph):
        way = [piece for piece in pieces if piece[2] == (name, other)]
        path = f"M{x[name]:.0f} {y[name] + HEIGHT}"
        for above, below, _ in way:
            middle = (y[above] + HEIGHT + y[below]) / 2
            path += f"C{x[above]:.0f} {middle:.0f} {x[below]:.0f} {middle:.0f} {x[below]:.0f} {y[below]}"
            path += "" if isinstance(below, str) else f"V{y[below] + HEIGHT}"
        out.append(f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.3" marker-end="url(#tip)"/>')
    for name in (place for row in rows for place in row if isinstance(place, str)):
        fill = METHODS if name in registry.KINDS else OTHERS
        out.append(_box(x[name] - WIDTH / 2, y[name], WIDTH, HEIGHT, fill, name))
    ground = sorted(name.split(".")[1] for name in modules(source) if "." in name and room(name, source) == GROUND)
    out.append(_box(8, base, width - 16, 44, "#e3e5e8", "  ".join(ground)))
    out += [
        f'<g font-size="12" fill="#222" transform="translate(24 {base + 64})">'
        f'<rect width="18" height="14" rx="3" fill="{METHODS}" stroke="{LINE}"/>'
        '<text x="26" y="11" text-anchor="start">one file per method, found by name</text>'
        f'<path d="M260 7h24" stroke="{LINE}" stroke-width="1.3" marker-end="url(#tip)"/>'
        '<text x="292" y="11" text-anchor="start">imports (left out: what other arrows imply, and the ground floor, '
        "which all use)</text></g>",
        "</svg>",
    ]
    return "\n".join(out) + "\n"


def _box(x: float, y: float, width: float, height: float, fill: str, text: str) -> str:
    return (
        f'<rect x="{x:.0f}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{LINE}"/>'
        f'<text x="{x + width / 2:.0f}" y="{y + height / 2 + 5:.0f}" fill="#222" xml:space="preserve">{text}</text>'
    )


def table(source: Path = SOURCE) -> str:
    """Return a table of rooms, from the top floor down: what each is for, and the rooms that it imports."""
    graph = arrows(source)
    lines = ["| room | what it is for | imports |", "| --- | --- | --- |"]
    for name in (name for names in FLOORS[:0:-1] for name in names if name in graph):
        package = ast.parse((source / name / "__init__.py").read_bytes())
        text = " ".join((ast.get_docstring(package) or "").split("\n\n")[0].split())
        lines.append(f"| `{name}` | {text} | {', '.join(f'`{n}`' for n in sorted(graph[name] - {GROUND})) or 'none'} |")
    return "\n".join(lines) + "\n"


def page(text: str, source: Path = SOURCE) -> str:
    """Return the page with its table replaced.

    Raises:
        RedoubtError: the page has lost its marks.
    """
    begin, end = text.find(MARKS[0]), text.find(MARKS[1])
    if not 0 <= begin < end:
        raise RedoubtError(f"{PAGE}: no lines {MARKS[0]!r} and {MARKS[1]!r} with the table between them")
    return text[: begin + len(MARKS[0])] + table(source) + text[end:]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the picture and the table.

    Raises:
        RedoubtError: imports break the order of the floors; nothing is written.
    """
    if wrong := problems():
        raise RedoubtError("\n".join(wrong))
    write_text(PICTURE, picture())
    write_text(PAGE, page(PAGE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
