"""Break the code on purpose and see a test catch it: `make mutants` runs every entry of tests/mutants.yaml.

Each entry replaces one piece of a source file in a copy of the tree and runs the tests it names; a mutant that they let
pass survives, and the script then ends with exit code 1. Names given on the command line run those alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (
    "src",
    "tests",
    "config",
    "workflow",
    "docs",
    "benchmarks",
    "envs",
    "profiles",
    "Snakefile",
    "dvc.yaml",
    "pyproject.toml",
    "README.md",
)


def copy_of_the_tree(folder: Path) -> Path:
    """Copy what the tests need and return the place."""
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


def failure(tree: Path, tests: str) -> str:
    """Run tests and return the first that fails, '' when none does.

    Raises:
        SystemExit: the tests could not run.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"error: {tests}: did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split("::")[-1] if failed else ""


def caught(tree: Path, mutant: dict[str, str]) -> str:
    """Apply one mutant, run its tests, put the file back, and return the first test that fails, '' when none does.

    Raises:
        SystemExit: the piece to replace is not there exactly once.
    """
    path = tree / mutant["file"]
    text = path.read_text()
    if text.count(mutant["find"]) != 1:
        raise SystemExit(f"error: {mutant['name']}: {mutant['file']} has not exactly one {mutant['find']!r}")
    path.write_text(text.replace(mutant["find"], mutant["replace"]))
    try:
        return failure(tree, mutant["tests"])
    finally:
        path.write_text(text)


def main(names: list[str]) -> int:
    """Run the mutants and print a table."""
    mutants = yaml.safe_load((ROOT / "tests/mutants.yaml").read_text())
    unknown = set(names) - {mutant["name"] for mutant in mutants}
    if unknown:
        raise SystemExit(f"error: no mutant is called {sorted(unknown)[0]!r}")
    survivors = 0
    print("| mutant | file | caught by | s |\n| --- | --- | --- | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as name:
        tree = copy_of_the_tree(Path(name))
        chosen = [mutant for mutant in mutants if not names or mutant["name"] in names]
        for tests in dict.fromkeys(mutant["tests"] for mutant in chosen):
            if broken := failure(tree, tests):
                raise SystemExit(f"error: {tests}: {broken} fails before anything is broken")
        for mutant in chosen:
            start = time.monotonic()
            by = caught(tree, mutant)
            survivors += not by
            seconds = time.monotonic() - start
            print(f"| {mutant['name']} | {mutant['file']} | {by or '**nothing**'} | {seconds:.0f} |", flush=True)
    print(f"\n{survivors} survived")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
