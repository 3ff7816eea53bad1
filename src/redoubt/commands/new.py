"""Write what a project, study, defense, attack, network, metric or figure begins with, ready to run.

  redoubt new project mine --empty && cd mine
  redoubt new defense my-shield
  redoubt new study my-paper --defense my-shield
  redoubt run

What you must say yourself is marked FILL IN. A project is a new folder with the config of all papers; a study goes into
the project that the command is called in. So does a defense, attack, network, metric or kind of figure, in a folder
beside config/, or beside the study.yaml of a study that lies elsewhere. In a checkout of Redoubt they go into its
sources, with a line in the tests that hold them to what their kind promises.
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
    parser.add_argument("--empty", action="store_true", help="of a project: no paper takes part, but what you begin")


def run(options: Namespace) -> int:
    """Write the files and say which, and what comes next."""
    if options.kind == "project":
        return project(Path(options.name), options.empty)
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", options.name):
        raise RedoubtError(f"{options.name!r}: a name has small letters, digits and single hyphens, a letter first")
    if options.kind == "study":
        return study(options.name, options.defense)
    if options.name in registry.names(ROOMS[options.kind]):
        raise RedoubtError(f"{options.name!r}: there is such a {options.kind} already")
    home = home_above(Path.cwd())
    return method(options.kind, options.name) if home is None else beside(options.kind, options.name, home)


def project(folder: Path, empty: bool) -> int:
    """Write a project: the config of all papers, which its owner may then change; `empty`: none of them takes part.

    Raises:
        RedoubtError: the folder has one.
    """
    if (folder / "config").exists():
        raise RedoubtError(f"{folder / 'config'}: it exists already")
    shutil.copytree(SHIPPED / "config", folder / "config")
    if empty:
        config = (folder / CONFIG).read_text(encoding="utf-8")
        write_text(folder / CONFIG, re.sub(r"(?m)^studies: \[.*\]", "studies: []", config, count=1))
    print(f"{folder / CONFIG}: choose scale and studies here; then `redoubt run` below {folder}")
    return 0


def home_above(start: Path) -> Path | None:
    """Return the folder beside whose files a method goes, the nearest study or project; None in a checkout."""
    for folder in (start, *start.parents):
        if (folder / "study.yaml").is_file() and folder.parent.name != "studies":
            return folder
        if (folder / CONFIG).is_file():
            break
    root = root_above(start)
    return None if (root / "src/redoubt").is_dir() else root


def beside(kind: str, name: str, home: Path) -> int:
    """Write the file of a method into the room of its kind in a project, or in a study that lies outside.

    Raises:
        RedoubtError: the file exists.
    """
    path = home / ROOMS[kind] / f"{registry.spelt(name)}.py"
    if path.exists():
        raise RedoubtError(f"{path}: it exists already")
    contents: dict[Path | str, str | bytes] = {path: filled(f"{kind}.py", name)}
    if (config := home / CONFIG).is_file():
        contents[config] = with_rooms(config.read_text(encoding="utf-8"))
    write_all(contents)
    print(path)
    held = kind in ("defense", "attack")
    print("Search for FILL IN" + (f"; `redoubt conform {path}` says what is missing." if held else "."))
    return 0


def with_rooms(config: str) -> str:
    """Return a project's config, changed where needed so that methods in folders beside config/ are found."""
    if re.search(r"(?m)^(studies|plugins): \[(.*, *)?\.\.[,\]]", config):
        return config
    listed, count = re.subn(r"(?m)^(plugins: \[.*)\]", r"\1, ..]", config, count=1)
    if count:
        return listed.replace("[, ", "[")
    return config.rstrip("\n") + "\nplugins: [..] # methods beside config/: defenses/, attacks/ and so on\n"


def method(kind: str, name: str) -> int:
    """Write the file of a method into the checkout, and the line in the tests that it needs.

    Raises:
        RedoubtError: the tests are not as they were.
    """
    path = f"src/redoubt/{ROOMS[kind]}/{registry.spelt(name)}.py"
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
    root, key = root_above(Path.cwd()), registry.spelt(name)
    if not (root / "defenses" / f"{registry.spelt(defense)}.py").is_file():
        registry.method("defenses", defense)
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
