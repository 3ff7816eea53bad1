"""Break the code on purpose and see a test catch it: `make mutants` runs every entry of tests/mutants.yaml.

An entry names a file, the function, class or method in it (`in`), a piece of code (`find`) that occurs there once, what
it becomes (`replace`) and the tests that must then fail. Pieces are compared token by token: spaces, line breaks,
comments, quotes and trailing commas do not matter, so reformatting breaks no entry. First all entries are checked, and
those that do not apply are listed; then each is applied in a copy of the tree and its tests run. A mutant that they let
pass survives. At the end the tests that caught one run on the code as it is: what fails there too has shown nothing.
The exit code is 1 when an entry does not apply, a mutant survives or a test fails anyhow.
"""

from __future__ import annotations

import argparse
import ast
import io
import itertools
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import tokenize
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
ENTRIES = ROOT / "tests/mutants.yaml"
NEEDED = (
    "src",
    "tests",
    "config",
    "workflow",
    "docs",
    "examples",
    "benchmarks",
    "envs",
    "profiles",
    "results/reference",
    "Makefile",
    "Snakefile",
    "dvc.yaml",
    "pyproject.toml",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
)
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class DoesNotApply(Exception):
    """An entry that cannot be applied; the message says why."""


def tokens(code: str) -> list[tokenize.TokenInfo]:
    """Return the tokens of a piece of code without layout, comments and trailing commas.

    Raises:
        DoesNotApply: the piece has open brackets or an unfinished string.
    """
    try:
        kept = [t for t in tokenize.generate_tokens(io.StringIO(code).readline) if t.type not in LAYOUT]
    except (tokenize.TokenError, SyntaxError) as error:
        raise DoesNotApply(f"cannot be read as code: {error.args[0]}") from None
    following = [*kept[1:], None]
    return [
        t for t, after in zip(kept, following, strict=True) if t.string != "," or not after or after.string not in ")]}"
    ]


def spelling(token: tokenize.TokenInfo) -> str:
    """Return what a token is compared by; the quotes of a string do not matter."""
    if token.type == tokenize.STRING and token.string[0] in "'\"":
        return repr(ast.literal_eval(token.string))
    return token.string


def lines_of(source: str, qualname: str) -> range:
    """Return the line numbers (from 1) of a function, class or method; of the whole file when `qualname` is empty.

    Raises:
        DoesNotApply: there is no such name.
    """
    body, lines = ast.parse(source).body, range(1, source.count("\n") + 2)
    for name in filter(None, qualname.split(".")):
        node = next((node for node in body if getattr(node, "name", None) == name), None)
        if node is None:
            raise DoesNotApply(f"has no {qualname}")
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        body, lines = node.body, range(first, node.end_lineno + 1)
    return lines


def places(source: str, qualname: str, find: str) -> list[tuple[int, int]]:
    """Return start and end offsets in `source` of every occurrence of a piece of code inside `qualname`."""
    wanted = [spelling(token) for token in tokens(textwrap.dedent(find).strip())]
    lines = lines_of(source, qualname)
    there = [token for token in tokens(source) if token.start[0] in lines]
    words = [spelling(token) for token in there]
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = (at for at in range(len(words) - len(wanted) + 1) if words[at : at + len(wanted)] == wanted)
    ends = [(there[at].start, there[at + len(wanted) - 1].end) for at in found]
    return [(starts[a - 1] + b, starts[c - 1] + d) for (a, b), (c, d) in ends]


def mutated(source: str, mutant: dict[str, str]) -> str:
    """Return the source of a file with one mutant applied.

    Raises:
        DoesNotApply: the piece does not occur exactly once, or the result is not Python.
    """
    qualname = mutant.get("in", "")
    found = places(source, qualname, mutant["find"])
    if len(found) != 1:
        raise DoesNotApply(f"{qualname or 'the file'} has the piece {len(found)} times, not once: {mutant['find']!r}")
    start, end = found[0]
    line = source[source.rfind("\n", 0, start) + 1 : start]
    indent = line[: len(line) - len(line.lstrip())]
    replacement = textwrap.dedent(mutant["replace"]).strip().replace("\n", "\n" + indent)
    changed = source[:start] + replacement + source[end:]
    try:
        same = ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source))
    except SyntaxError as error:
        raise DoesNotApply(f"is not Python when replaced: {error}") from None
    if same:
        raise DoesNotApply("means the same when replaced")
    return changed


def problem(mutant: dict[str, str]) -> str:
    """Return why an entry does not apply to the tree, '' when it does."""
    missing = [word for word in mutant["tests"].split() if word.startswith("tests/") and not (ROOT / word).exists()]
    if missing:
        return f"there is no {missing[0]}"
    try:
        mutated((ROOT / mutant["file"]).read_text(), mutant)
    except OSError:
        return f"there is no {mutant['file']}{elsewhere(mutant)}"
    except DoesNotApply as error:
        return f"{mutant['file']}: {error}{elsewhere(mutant)}"
    return ""


def elsewhere(mutant: dict[str, str]) -> str:
    """Return a hint that names the places in other files or functions that have the piece."""
    found = anywhere(mutant)
    listed = ", ".join(f"{file}: {qualname or 'module'}" for file, qualname in found)
    return f" (it is in {listed})" if 0 < len(found) < 4 else ""


def anywhere(mutant: dict[str, str]) -> list[tuple[str, str]]:
    """Return file and qualname of every place under src that has the piece of an entry."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        source = path.read_text()
        try:
            starts = [start for start, _ in places(source, "", mutant["find"])]
        except DoesNotApply:
            return []
        found += [(str(path.relative_to(ROOT)), name_at(source, source.count("\n", 0, at) + 1)) for at in starts]
    return found


def name_at(source: str, line: int) -> str:
    """Return the qualname of the innermost function or class around a line, '' at the level of the module."""
    names, body = [], ast.parse(source).body
    while inner := [n for n in body if isinstance(n, DEFINITIONS) and n.lineno <= line <= n.end_lineno]:
        names.append(inner[0].name)
        body = inner[0].body
    return ".".join(names)


def follow(mutants: list[dict[str, str]]) -> int:
    """Point entries that do not apply to the one place that has their piece now; return how many."""
    text, moved = ENTRIES.read_text(), 0
    for mutant in mutants:
        found = anywhere(mutant) if problem(mutant) else []
        changed = {**mutant, "in": found[0][1], "file": found[0][0]} if len(found) == 1 else mutant
        if changed is mutant or problem(changed):
            continue
        start = text.index(f"- name: {mutant['name']}\n")
        end = text.find("\n- name: ", start) if "\n- name: " in text[start:] else len(text)
        name, rest = re.sub(r"\n  (file|in): .*", "", text[start:end]).split("\n", 1)
        place = [f"  file: {changed['file']}", *([f"  in: {changed['in']}"] if changed["in"] else [])]
        text = text[:start] + "\n".join([name, *place, rest]) + text[end:]
        moved += 1
    ENTRIES.write_text(text)
    return moved


def problems(mutants: list[dict[str, str]]) -> list[str]:
    """Return one line for every entry that does not apply."""
    names = [mutant["name"] for mutant in mutants]
    twice = [f"{name}: is there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    return twice + [f"{mutant['name']}: {why}" for mutant in mutants if (why := problem(mutant))]


def copy_of_the_tree(folder: Path) -> Path:
    """Copy what the tests need into a repository, and return its place."""
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    for command in ("init --quiet", "add --all"):  # some tests list the files of their checkout
        subprocess.run(["git", "-C", folder, *command.split()], check=True)
    return folder


def output(tree: Path, *tests: str) -> str:
    """Run tests in a copy of the tree up to the first that fails, and return what pytest prints.

    Raises:
        SystemExit: the tests could not run.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"error: {' '.join(tests)}: did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def failed(printed: str) -> str:
    """Return the name of the test that failed, without parameters, by what pytest printed; '' when none did."""
    lines = (line.split() for line in printed.splitlines() if line.startswith(("FAILED", "ERROR")))
    return next((words[1].split("[")[0] for words in lines), "")


def caught(tree: Path, mutant: dict[str, str]) -> str:
    """Apply one mutant, run its tests, and return the first that fails, '' when none does.

    Then the tree is as before: what broken code leaves elsewhere could fail the tests of the next one.
    """
    path = tree / mutant["file"]
    path.write_text(mutated(path.read_text(), mutant))
    try:
        return failed(output(tree, *mutant["tests"].split()))
    finally:
        for command in ("checkout --quiet -- .", "clean --quiet --force -d -x"):
            subprocess.run(["git", "-C", tree, *command.split()], check=True)


def run(mutants: list[dict[str, str]], jobs: int) -> int:
    """Run mutants on `jobs` copies of the tree at the same time, print a table, and return how many survive.

    Raises:
        SystemExit: a test that caught a mutant fails when nothing is broken.
    """
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(jobs) as pool:
        trees: queue.Queue[Path] = queue.Queue()
        for number in range(jobs):
            trees.put(copy_of_the_tree(Path(name, str(number))))

        def within(work, *values):
            tree, start = trees.get(), time.monotonic()
            try:
                return work(tree, *values), time.monotonic() - start
            finally:
                trees.put(tree)

        tests, tried = set(), pool.map(lambda mutant: within(caught, mutant), mutants)
        survivors = 0
        print("| mutant | file | caught by | s |\n| --- | --- | --- | ---: |", flush=True)
        for mutant, (by, seconds) in zip(mutants, tried, strict=True):
            survivors += not by
            tests.add(by)
            shown = by.split("::")[-1] or "**nothing**"
            print(f"| {mutant['name']} | {mutant['file']} | {shown} | {seconds:.0f} |", flush=True)
        tests.discard("")
        files = itertools.groupby(sorted(tests), key=lambda test: test.split("::")[0])
        unbroken = pool.map(lambda those: within(output, *those)[0], [list(those) for _, those in files])
        errors = (
            f"error: {by} fails before anything is broken:\n{text[-3000:]}" for text in unbroken if (by := failed(text))
        )
        if lines := "\n".join(errors):
            raise SystemExit(lines)
    print(f"\n{survivors} survived; what caught the others ({len(tests)} tests) passes on the code as it is")
    return survivors


def main(argv: list[str] | None = None) -> int:
    """Check the entries and run them, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="run these mutants only")
    parser.add_argument("--check", action="store_true", help="only list the entries that do not apply")
    parser.add_argument(
        "--follow", action="store_true", help="rewrite file and function of entries whose piece has moved"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants run at the same time")
    arguments = parser.parse_args(argv)
    mutants = yaml.safe_load(ENTRIES.read_text())
    if arguments.follow:
        print(f"{follow(mutants)} entries follow their piece")
        mutants = yaml.safe_load(ENTRIES.read_text())
    if unknown := set(arguments.names) - {mutant["name"] for mutant in mutants}:
        raise SystemExit(f"error: no mutant is called {sorted(unknown)[0]!r}")
    chosen = [mutant for mutant in mutants if not arguments.names or mutant["name"] in arguments.names]
    if wrong := problems(chosen):
        print("\n".join(f"error: {line}" for line in wrong), file=sys.stderr)
        return 1
    if arguments.check or arguments.follow:
        print(f"{len(chosen)} mutants apply")
        return 0
    return int(run(chosen, arguments.jobs) > 0)


if __name__ == "__main__":
    sys.exit(main())
