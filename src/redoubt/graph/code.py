"""Which source files a step reads, found by following its import statements."""

import ast
import hashlib
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]


def module_file(name: str) -> Path | None:
    """Return the file of a module `redoubt...` under the source folder, or None when there is none."""
    base = SOURCE.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "lazy"
            and isinstance(node.args[0], ast.Constant)
        ):
            names.add(node.args[0].value)
    return {name for name in names if name.split(".")[0] == "redoubt"}


@cache
def _direct(name: str) -> frozenset[str]:
    file = module_file(name)
    if file is None:
        return frozenset()
    parents = {".".join(name.split(".")[:end]) for end in range(1, len(name.split(".")))}
    return frozenset(found for found in _imported(ast.parse(file.read_bytes())) | parents if module_file(found))


def closure(*names: str) -> list[Path]:
    """Return the files of the named modules and of all modules that they import, directly or not, sorted."""
    todo, seen = list(names), set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(_direct(name))
    return sorted(file for name in seen if (file := module_file(name)) is not None)


def digest(*names: str) -> str:
    """Return the SHA-256 of the source of the named modules and of all that they import."""
    result = hashlib.sha256()
    for file in closure(*names):
        content = file.read_bytes()
        result.update(f"{file.relative_to(SOURCE).as_posix()}\0{len(content)}\0".encode() + content)
    return result.hexdigest()
