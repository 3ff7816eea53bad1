"""Which source code a job runs, and one digest of what it means.

The code of a job is the modules that it names and all that they import, found by reading import statements; those that
only type checkers follow are left out. Its digest is taken over their text without comments, docstrings, layout and the
wording of errors and descriptions, so that it changes only where a result could. It is the same for every minor version
of Python and wherever the checkout lies.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from redoubt.layout import OWN, SOURCE, module_file

__all__ = ["SOURCE", "closure", "digest", "imported", "meaning", "module_file"]

WITHOUT_MEANING = {
    "redoubt.errors": "wording of failures; a failed job has no result",
    "redoubt.progress": "bars on a terminal",
    "redoubt.lazily": "when a module is imported, not which",
    "redoubt._torchvision": "whether torchvision can be imported",
    "redoubt.graph": "what runs when, and what counts as the same job",
    "redoubt.data.sources": "a table of datasets; what decides the bytes of one is the entry of its download",
}
"""Modules (and packages, with all in them) that cannot change a result, and why; their imports are not followed."""
FRONT = "redoubt"
"""The package itself: it offers users what other modules have, and its text is none of any job."""
WORDS = {"Field": "description", "add_argument": "help"}
"""Arguments that only people read, by the function that takes them."""
_ENDS = ("<NEWLINE>", "<INDENT>", "<DEDENT>")
_LAYOUT = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER)


def imported(name: str, tree: ast.Module, is_package: bool, types: bool = True) -> Iterator[str]:
    """Yield the names that a module imports, and what may be modules among the names that it imports from others.

    Args:
        name: of the module.
        tree: its syntax.
        is_package: its file is that of a package.
        types: follow what is imported for type checkers alone, too: what stands below `if TYPE_CHECKING:`.
    """
    parts = (part for each in tree.body for part in ([each] if types else _run(each)))
    for node in (node for part in parts for node in ast.walk(part)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = name.split(".") if is_package else name.split(".")[:-1]
            base = parents[: len(parents) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) == "lazy" and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value)


def _run(statement: ast.stmt) -> list[ast.stmt]:
    """Return what Python runs of a statement of a module: of `if TYPE_CHECKING:`, what stands below its `else:`."""
    if isinstance(statement, ast.If) and getattr(statement.test, "id", None) == "TYPE_CHECKING":
        return statement.orelse
    return [statement]


@cache
def _direct(name: str, source: Path) -> frozenset[str]:
    file = module_file(name, source)
    parts = name.split(".")
    parents = {".".join(parts[:end]) for end in range(1, len(parts))}
    assert file is not None, name
    found = set(imported(name, ast.parse(file.read_bytes()), file.name == "__init__.py", types=False))
    beside = {f"{parts[0]}.{parts[1]}.{other}" for other in found} if parts[0] == OWN else set()
    return frozenset({*found, *beside, *parents})


def _means_nothing(name: str) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in WITHOUT_MEANING)


@cache
def closure(*names: str, source: Path = SOURCE) -> tuple[str, ...]:
    """Return the given modules and all modules of their top packages and of redoubt that they import, sorted.

    Modules without meaning are left out, unless they are given.
    """
    tops = {"redoubt", *(name.split(".")[0] for name in names)}
    todo, seen = list(names), set()
    while todo:
        name = todo.pop()
        if name in seen or name.split(".")[0] not in tops:
            continue
        seen.add(name)
        todo.extend(_followed(name, source))
    return tuple(sorted(name for name in seen if _known(name, source)))


@cache
def _known(name: str, source: Path) -> bool:
    return module_file(name, source) is not None


@cache
def _followed(name: str, source: Path) -> tuple[str, ...]:
    """Return what a module imports and is not without meaning; nothing of what is no module."""
    found = _direct(name, source) if _known(name, source) else ()
    return tuple(other for other in found if not _means_nothing(other))


@cache
def digest(*names: str, source: Path = SOURCE) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the meaning of some modules and all that they import."""
    parts = hashlib.sha256()
    for name in closure(*names, source=source):
        parts.update(f"{name}\0{_text_digest(name, source)}\n".encode())
    return parts.hexdigest()[:16]


@cache
def _text_digest(name: str, source: Path) -> str:
    file = module_file(name, source)
    assert file is not None, name
    text = "" if name == FRONT else file.read_text(encoding="utf-8")
    return _meaning_digest(text)


@cache
def _meaning_digest(text: str) -> str:
    return hashlib.sha256(meaning(text).encode()).hexdigest()


# -- what a source text means ------------------------------------------------------------------------------------------


def meaning(text: str) -> str:
    """Return source text without comments, docstrings, layout, and wording that only people read.

    What is left are its tokens, one a line. They are cut from the text, an f-string as one piece, since newer versions
    of Python split f-strings and older ones do not.
    """
    lines = io.StringIO(text).readlines()
    skipped = sorted(_wording(ast.parse(text), lines))
    result: list[str] = []
    place, opened, start = 0, 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        if kind.endswith("STRING_START"):
            opened, start = opened + 1, token.start if not opened else start
        elif kind.endswith("STRING_END"):
            opened -= 1
        if opened or token.type in _LAYOUT:
            continue
        begin = start if kind.endswith("STRING_END") else token.start
        while place < len(skipped) and skipped[place][1] <= begin:
            place += 1
        if place < len(skipped) and skipped[place][0] <= begin:
            continue
        if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            if kind != "NEWLINE" or (result and result[-1] not in _ENDS):  # none is left of a line without meaning
                result.append(f"<{kind}>")
        else:
            result.append(_cut(lines, begin, token.end) if kind.endswith("STRING_END") else token.string)
    return "\n".join(result)


def _cut(lines: list[str], begin: tuple[int, int], end: tuple[int, int]) -> str:
    """Return the text between two places, each a line from 1 and a column from 0."""
    if begin[0] == end[0]:
        return lines[begin[0] - 1][begin[1] : end[1]]
    middle = lines[begin[0] : end[0] - 1]
    return "".join([lines[begin[0] - 1][begin[1] :], *middle, lines[end[0] - 1][: end[1]]])


def _wording(tree: ast.Module, lines: list[str]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield begin and end of strings that change no result: docstrings, wording of errors, descriptions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and _is_text(node.value):
            yield _span(node, lines)
        elif isinstance(node, ast.Raise):
            yield from (_span(part, lines) for part in _texts(node))
        elif isinstance(node, ast.Call) and (keyword := WORDS.get(_called(node) or "")):
            given = [word.value for word in node.keywords if word.arg == keyword]
            yield from (_span(part, lines) for value in given for part in _texts(value))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _texts(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the outermost strings below a node: the parts of an f-string have no places of their own in Python 3.11."""
    if _is_text(node):
        yield node
    else:
        for child in ast.iter_child_nodes(node):
            yield from _texts(child)


def _called(node: ast.Call) -> str | None:
    """Return the last part of the name of a called function."""
    return getattr(node.func, "id", None) or getattr(node.func, "attr", None)


def _span(node: Any, lines: list[str]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where a node begins and ends, columns in characters (the syntax tree counts bytes)."""

    def column(line: int, offset: int) -> int:
        return len(lines[line - 1].encode()[:offset].decode())

    begin = (node.lineno, column(node.lineno, node.col_offset))
    return begin, (node.end_lineno, column(node.end_lineno, node.end_col_offset))
