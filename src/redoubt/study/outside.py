"""Files of users that lie outside the repository, and the copy of the sources that holds them too.

A study names files by paths, relative to its folder. Before anything runs they are copied beside our own sources, where
they have names: a file of a network becomes a module of the package `redoubt_own`. Steps read the copy alone.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redoubt.errors import RedoubtError, shortened
from redoubt.files import canonical_json, file_digest, read_json
from redoubt.layout import OUTSIDE, SOURCE, module_file, study_file
from redoubt.registry import own_module
from redoubt.study.reading import read_yaml

STORE = Path(".snakemake/sources")
KEEP_SECONDS = 90 * 86400.0  # longer than any job waits in a queue
MOST_FILES = 500
SUFFIXES = (".safetensors", ".pt", ".pth")
"""Of files of weights: safetensors, or what `torch.save` writes."""
_SECTIONS = ("baselines", "models")


@dataclass
class Outside:
    """What a config names outside the repository.

    Attributes:
        homes: folder that paths of a study are relative to, by the study.
        files: the copies, by their places in the copy of the sources.
    """

    homes: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)

    def add(self, place: str, file: Path) -> None:
        """Have a file copied to a place.

        Raises:
            RedoubtError: another file is copied there.
        """
        other = self.files.setdefault(place, file)
        if other != file and other.read_bytes() != file.read_bytes():
            raise RedoubtError(f"{file}: its name is that of {other}, another file of the same study; rename one")


def importable(study: str, module: str, sources: Path, where: str) -> str:
    """Return a model's `module` as an importable name and a class or function, as package.module:Name.

    Args:
        study: that names it.
        module: as the study spells it; a file of Python has been copied already.
        sources: the folder of the copy of the sources.
        where: file and key, for the message.

    Raises:
        RedoubtError: there is no such module, or it has no such class or function.
    """
    path, _, name = module.rpartition(":")
    dotted = own_module(study, path) if path.endswith(".py") else path
    if (file := module_file(dotted, sources / "src")) is None:
        raise RedoubtError(f"{where}: {path!r} is not an importable module, nor a file that ends with .py")
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise RedoubtError(f"{where}: {path}: line {error.lineno}: {error.msg}") from None
    if name not in (found := set(_defined(tree))) and "*" not in found:
        raise RedoubtError(f"{where}: {path} has no {name}; it has {shortened(sorted(found), 10) or 'nothing'}")
    return f"{dotted}:{name}"


def _defined(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module defines or imports; * where it imports all of another."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def weights(home: str, path: str, where: str) -> tuple[str, str]:
    """Return the whole path of a user's file of weights, and its SHA-256.

    Raises:
        RedoubtError: it is missing, or its name says that it is no file of weights.
    """
    file = Path(home) / path
    if file.suffix not in SUFFIXES:
        raise RedoubtError(f"{where}.weights: {path}: its name ends with one of {', '.join(SUFFIXES)}")
    if not file.is_file():
        raise RedoubtError(f"{where}.weights: {path}: no such file")
    return str(file.resolve()), file_digest(file)


def gathered(root: Path, studies: list[str]) -> Outside:
    """Return what the studies of a config name outside the repository at `root`.

    Raises:
        RedoubtError: a file is missing; the message names file and key.
    """
    found = Outside()
    for study in studies:
        place = study_file(study, "models")
        if not (root / place).is_file():
            continue
        home = (root / place).parent.absolute()
        for where, path in _paths(read_yaml(root, place), place):
            found.homes[study] = str(home)
            if path:
                _add_module(found, study, home, path, where)
    return found


def _paths(models: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield where a models.yaml names a file of a network, and its path; an empty one where it names weights only."""
    for section in _SECTIONS:
        entries = models.get(section) if isinstance(models, Mapping) else None
        for key, entry in entries.items() if isinstance(entries, Mapping) else ():
            if isinstance(entry, Mapping) and {"module", "weights"} & entry.keys():
                path = str(entry.get("module", "")).rpartition(":")[0]
                yield f"{place}: {section}.{key}.module", path if path.endswith(".py") else ""


def _add_module(found: Outside, study: str, home: Path, path: str, where: str) -> None:
    """Have a file of a network copied, with the modules and packages beside it, which it may import."""
    file = home / path
    if not file.is_file():
        raise RedoubtError(f"{where}: {path}: no such file")
    if not file.stem.isidentifier():
        raise RedoubtError(f"{where}: {path}: the name of a file of Python has letters, digits and underscores only")
    target = "src/" + own_module(study, path).rpartition(".")[0].replace(".", "/")
    beside = [file, *sorted(other for other in file.parent.glob("*.py") if other != file)]
    for folder in sorted(file.parent.iterdir()):
        if (folder / "__init__.py").is_file():
            beside += sorted(folder.rglob("*.py"))
    if len(beside) > MOST_FILES:
        raise RedoubtError(f"{where}: {path}: {len(beside)} files of Python lie beside it; put it in a separate folder")
    for other in beside:
        found.add(f"{target}/{other.relative_to(file.parent).as_posix()}", other)


# -- the copy ----------------------------------------------------------------------------------------------------------


def copied(places: Mapping[str, Path], outside: Outside) -> Path:
    """Copy folders, and what lies outside; return the copy's folder, relative to the working directory.

    Copies that no run has used for 90 days are removed.

    Args:
        places: the folders, by their places in the copy.
        outside: what lies outside of them.
    """
    contents = {
        f"{place}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for place, folder in places.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    contents |= {place: path.read_bytes() for place, path in outside.files.items()}
    if outside.homes:
        contents[OUTSIDE] = canonical_json({"homes": outside.homes}).encode()
    digest = hashlib.sha256()
    for place, content in contents.items():
        digest.update(f"{place}\0{len(content)}\0".encode() + content)
    copy = STORE / digest.hexdigest()[:16]
    if not copy.exists():
        STORE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=STORE) as part:
            for place, content in contents.items():
                (part / Path(place)).parent.mkdir(parents=True, exist_ok=True)
                (part / Path(place)).write_bytes(content)
            try:
                Path(part).rename(copy)
            except OSError:  # another run made the same copy in the meantime
                assert copy.is_dir()
    os.utime(copy)
    for other in STORE.iterdir():
        if time.time() - other.stat().st_mtime > KEEP_SECONDS:
            shutil.rmtree(other, ignore_errors=True)
    return copy


def settled(root: Path, studies: list[str]) -> tuple[Path, dict[str, str]]:
    """Return the folder whose sources hold all files of the config, and the folders of studies that name more.

    It is `root`, unless the config names files outside the repository and `root` is no copy yet.
    """
    if not (root / OUTSIDE).is_file():
        found = gathered(root, studies)
        if not found.homes:
            return root, {}
        code = root / "src/redoubt"
        places = {"config": root / "config", "src/redoubt": code if code.is_dir() else SOURCE / "redoubt"}
        root = copied(places, found)
    return root, read_json(root / OUTSIDE)["homes"]
