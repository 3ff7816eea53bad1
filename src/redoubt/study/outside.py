"""Files of users that lie outside the repository, and the copy of the sources that holds them too.

A study names files by paths, relative to its folder. Before anything runs they are copied beside our own sources, where
they have names: a file of a network becomes a module of the package `redoubt_own`. Steps read the copy alone.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from redoubt import registry
from redoubt.errors import RedoubtError, shortened
from redoubt.files import canonical_json, file_digest, read_json
from redoubt.layout import (
    CONFIG,
    OUTSIDE,
    SOURCE,
    changes_file,
    module_file,
    published_file,
    study_file,
    worlds_file,
)
from redoubt.registry import own_module
from redoubt.study.config import PARTS, STUDY_ID, Config
from redoubt.study.expand import LISTS
from redoubt.study.reading import read_yaml

STORE = Path(".snakemake/sources")
KEEP_SECONDS = 90 * 86400.0  # longer than any job waits in a queue
MOST_FILES = 500
SUFFIXES = (".safetensors", ".pt", ".pth")
"""Of files of weights: safetensors, or what `torch.save` writes."""
NOTHING_PRINTED = b"artifact,row,column,value,unit,note\n"
_SECTIONS = ("baselines", "models")


@dataclass
class Outside:
    """What a config names outside the repository.

    Attributes:
        homes: folder that paths of a study are relative to, by the study.
        ids: of studies, by their paths as the config has them.
        files: contents of the copies, by their places in the copy of the sources.
        origins: the files as a user knows them, by the same places.
    """

    homes: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, place: str, file: Path, content: bytes | None = None) -> None:
        """Have a file copied to a place; with `content`, that part of it.

        Raises:
            RedoubtError: another file is copied there.
        """
        content = file.read_bytes() if content is None else content
        if self.files.setdefault(place, content) != content:
            raise RedoubtError(f"{file}: its name is that of {self.origins[place]}, which a run copies too; rename one")
        self.origins[place] = str(file)


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


def gathered(root: Path, config: Config, changed: Collection[str] = ()) -> Outside:
    """Return what a config names outside the repository at `root`.

    Args:
        root: folder of the repository or of a user's project.
        config: with what the command line changes in it.
        changed: the keys that the command line gives, whose paths are relative to the working directory; those of
            config.yaml are relative to its folder.

    Raises:
        RedoubtError: a file is missing, or its name is taken; the message names file and key.
    """
    found = Outside()

    def place(key: str, path: str) -> Path:
        return Path(os.path.normpath((Path() if key in changed else (root / CONFIG).parent) / path))

    for folder in config.plugins:
        _add_rooms(found, place("plugins", folder), f"{CONFIG}: plugins: {folder}")
    for study in config.studies:
        if is_path(study):
            name = _add_study(found, place("studies", study), f"{CONFIG}: studies: {study}")
            if name in config.studies or name in found.ids.values():
                raise RedoubtError(f"{CONFIG}: studies: {study}: {name} is the name of another study; rename it")
            found.ids[study] = name
        else:
            _add_modules(found, study, (root / study_file(study, "models")).parent, root)
    for name in found.ids.values():
        _add_modules(found, name, Path(found.homes[name]), None)
    return found


def is_path(study: str) -> bool:
    """Tell whether a study is given by the path of its folder or file, in place of its id."""
    return "/" in study or study.startswith(".") or study.endswith(".yaml")


def _add_study(found: Outside, path: Path, where: str) -> str:
    """Have a study copied that lies in a folder, or in one file; return its id."""
    folder, name = (path.parent, path.stem) if path.suffix == ".yaml" else (path, path.resolve().name)
    if not re.fullmatch(STUDY_ID, name):
        raise RedoubtError(f"{where}: {name!r}: a study's name has lower case letters, digits, hyphens and underscores")
    if path.is_file():
        for part, content in _split(path).items():
            found.add(study_file(name, part), path, content)
    elif (path / "study.yaml").is_file():
        for file in sorted(path.glob("*.yaml")):
            found.add(study_file(name, file.stem), file)
    else:
        raise RedoubtError(f"{where}: no such file, nor a folder with study.yaml")
    printed = next((file for file in (folder / f"{name}.csv", folder / "published.csv") if file.is_file()), None)
    found.add(published_file(name), printed or folder / "published.csv", None if printed else NOTHING_PRINTED)
    if (worlds := folder / "worlds.csv").is_file():
        found.add(worlds_file(name), worlds)
    for file in sorted((folder / "scales").glob("*.yaml")):
        found.add(changes_file(file.stem, name), file)
    _add_rooms(found, folder, where)
    found.homes[name] = str(folder.absolute())
    return name


def _split(path: Path) -> dict[str, bytes]:
    """Return the files of a study that is written in one, by the keys that each of them has."""
    text = path.read_text(encoding="utf-8")
    read_yaml(path.parent, path.name)
    tree = yaml.compose(text, yaml.SafeLoader)
    keys = [(key.value, key.start_mark.line) for key, _ in tree.value] if isinstance(tree, yaml.MappingNode) else []
    lines, parts = text.splitlines(keepends=True), dict.fromkeys(PARTS, "")
    for (key, begin), (_, end) in pairwise([*keys, ("", len(lines))]):
        part = next((part for part, record in PARTS.items() if key in record.model_fields), "study")
        parts["artifacts" if key == LISTS else part] += "".join(lines[begin:end])
    return {part: (content or "{}\n").encode() for part, content in parts.items()}


def _add_rooms(found: Outside, folder: Path, where: str) -> None:
    """Have the methods copied that a folder has in rooms of our names: `defenses/*.py`, `attacks/*.py`, and so on.

    Raises:
        RedoubtError: there is no such folder, or we have a method of this name.
    """
    if not folder.is_dir():
        raise RedoubtError(f"{where}: no such folder")
    for kind in registry.KINDS:
        for file in sorted((folder / kind).glob("*.py")):
            if (SOURCE / "redoubt" / kind / file.name).exists():
                if file.stem == "__init__":
                    continue
                raise RedoubtError(f"{file}: Redoubt has {kind}/{file.name} too; rename it")
            found.add(f"src/redoubt/{kind}/{file.name}", file)


def _add_modules(found: Outside, study: str, home: Path, root: Path | None) -> None:
    """Have the files of networks copied that a study's models name."""
    place = study_file(study, "models")
    if root is not None:
        models = read_yaml(root, place) if (root / place).is_file() else None
    else:
        models = yaml.safe_load(found.files[place]) if place in found.files else None
    for where, path in _paths(models, found.origins.get(place, place)):
        found.homes[study] = str(home.absolute())
        if path:
            _add_module(found, study, home, path, where)


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
    contents |= outside.files
    if outside.homes or outside.files:
        facts = {key: value for key, value in vars(outside).items() if key != "files"}
        contents[OUTSIDE] = canonical_json(facts).encode()
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


def settled(root: Path, config: Config, changed: Collection[str]) -> tuple[Path, Outside]:
    """Return the folder whose sources hold all files of the config, and where those lie that were outside of it.

    It is `root`, unless the config names files outside the repository and `root` is no copy yet.
    """
    if not (root / OUTSIDE).is_file():
        found = gathered(root, config, changed)
        if not found.homes and not found.files:
            return root, found
        code = root / "src/redoubt"
        places = {"config": root / "config", "src/redoubt": code if code.is_dir() else SOURCE / "redoubt"}
        root = copied(places, found)
    return root, Outside(**read_json(root / OUTSIDE))


def as_written(message: str, root: Path) -> str:
    """Return a message that names files as their users know them, in the place of their copies below `root`."""
    if (root / OUTSIDE).is_file():
        for place, file in sorted(read_json(root / OUTSIDE)["origins"].items(), reverse=True):
            message = message.replace(place, file)
    return message
