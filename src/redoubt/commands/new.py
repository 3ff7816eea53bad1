"""Write what a project, study, defense, attack, network, metric or figure begins with, ready to run.

  redoubt new defense my-shield
  redoubt new study my-paper --defense my-shield
  redoubt run my_paper

What you must say yourself is marked FILL IN. A defense, attack, network, metric or kind of figure goes into the
checkout that runs, with a line in the tests that hold it to what its kind promises; a study goes into the project that
the command is called in; a project is a new folder with the config of all papers.
"""

import re
import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.files import write_all, write_text
from redoubt.graph.project import CONFIG, SHIPPED, root_above
from redoubt.layout import published_file, study_file

TEMPLATES = Path(__file__).resolve().parent / "templates"
ROOMS = {
    "defense": "defenses",
    "attack": "attacks",
    "network": "networks",
    "metric": "metrics",
    "figure": "artifacts",
}
TESTS = {
    "defense": ("tests/defenses.py", "CASES = {\n", '    "NAME": Case(start=False, schedule=SCRATCH),\n'),
    "attack": (
        "tests/contract/test_attacks.py",
        "CASES = {\n",
        '    "NAME": ({"epsilons": [0.1, 0.2]}, ("linf", "epsilon")),\n',
    ),
    "figure": (
        "tests/unit/test_artifacts.py",
        "FIGURES = {\n",
        '    "NAME": {"attack": "deepfool", "models": ["a", "gone"]},\n',
    ),
}
"""The file of tests that must know a new method, after which line, and the line that it is given."""
PUBLISHED = "artifact,row,column,value,unit,note\n"


def add(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("kind", choices=["project", "study", *ROOMS], help="what to write")
    parser.add_argument("name", help="such as my-shield: small letters, digits and hyphens; of a project, its folder")
    parser.add_argument("--defense", default="clean", help="of a study's second model; clean by default")


def run(options: Namespace) -> int:
    """Write the files and say which, and what comes next."""
    if options.kind == "project":
        return project(Path(options.name))
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", options.name):
        raise RedoubtError(f"{options.name!r}: a name has small letters, digits and single hyphens, a letter first")
    return study(options.name, options.defense) if options.kind == "study" else method(options.kind, options.name)


def project(folder: Path) -> int:
    """Write a project: the config of all papers, which its owner may then change.

    Raises:
        RedoubtError: the folder has one.
    """
    if (folder / "config").exists():
        raise RedoubtError(f"{folder / 'config'}: it exists already")
    shutil.copytree(SHIPPED / "config", folder / "config")
    print(f"{folder / CONFIG}: choose scale and studies here; then `redoubt run` below {folder}")
    return 0


def method(kind: str, name: str) -> int:
    """Write the file of a method into the checkout, and the line in the tests that it needs.

    Raises:
        RedoubtError: no checkout runs, or there is such a method.
    """
    room, path = ROOMS[kind], f"src/redoubt/{ROOMS[kind]}/{registry.spelt(name)}.py"
    if not (SHIPPED / "src").is_dir():
        raise RedoubtError(f"{kind}: it goes into a checkout of Redoubt, and an installed package runs")
    if name in registry.names(room):
        raise RedoubtError(f"{name!r}: there is such a {kind} already")
    contents: dict[Path | str, str | bytes] = {SHIPPED / path: filled(f"{kind}.py", name)}
    if kind in TESTS:
        tests, mark, line = TESTS[kind]
        text = (SHIPPED / tests).read_text(encoding="utf-8")
        if mark not in text:
            raise RedoubtError(f"{tests}: no line {mark.strip()!r} to add {name!r} after")
        contents[SHIPPED / tests] = text.replace(mark, mark + line.replace("NAME", name), 1)
    write_all(contents)
    for file in contents:
        print(Path(file).relative_to(SHIPPED))
    print("Search for FILL IN; then `make format`, `make lint`, and the contract tests:")
    print(f"  python -m pytest tests/contract tests/unit/test_artifacts.py -k {name}")
    return 0


def study(name: str, defense: str) -> int:
    """Write the files of a study into the project, and its name into the config.

    Raises:
        RedoubtError: there is such a study or no such defense, or the config has no list of studies on one line.
    """
    registry.method("defenses", defense)
    root, key = root_above(Path.cwd()), registry.spelt(name)
    if (folder := (root / study_file(key, "study")).parent).exists():
        raise RedoubtError(f"{folder}: it exists already")
    config = (root / CONFIG).read_text(encoding="utf-8")
    listed, count = re.subn(r"(?m)^(studies: \[.*)\]", rf"\1, {key}]", config, count=1)
    if not count:
        raise RedoubtError(f"{CONFIG}: no line `studies: [...]` to add {key!r} to")
    contents: dict[Path | str, str | bytes] = {root / published_file(key): PUBLISHED}
    for part in sorted((TEMPLATES / "study").iterdir()):
        text = filled(f"study/{part.name.removesuffix('.txt')}", name).replace("DEFENSE", defense)
        contents[root / study_file(key, part.name.split(".")[0])] = text
    write_all(contents)
    write_text(root / CONFIG, listed.replace("[, ", "["))
    for file in contents:
        print(Path(file).relative_to(root))
    print(f"Search for FILL IN. `redoubt run -n {key}` says what would run, `redoubt run {key}` runs it.")
    return 0


def filled(template: str, name: str) -> str:
    """Return a template with the names filled in."""
    text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
    title = name.replace("-", " ").capitalize()
    return text.replace("MODULE", registry.spelt(name)).replace("PREFIX", name).replace("TITLE", title)
