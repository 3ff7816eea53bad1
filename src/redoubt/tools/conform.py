"""Hold a defense or an attack to what Redoubt promises of its own: a line for each check, and what to fix.

A small network is trained on scikit-learn's digits, which takes a minute. The exit code is 1 where a check fails.

    python -m redoubt.tools.conform my/defenses/trades.py --parameters '{"epsilon": 0.1}'
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from redoubt import registry
from redoubt.errors import RedoubtError, cli
from redoubt.files import parse_json
from redoubt.tools import _conform_attack, _conform_defense
from redoubt.tools._conform_digits import Gate

KINDS = {"defenses": _conform_defense.checks, "attacks": _conform_attack.checks}
"""What yields the checks of a method, by its kind; each returns a `Gate` or raises."""


def found(method: str) -> tuple[str, str]:
    """Return kind and name of a method given by its name, or by its file, which then counts as one of ours.

    Raises:
        RedoubtError: there is no such method or file, or both kinds have one of this name.
    """
    if not method.endswith(".py"):
        kinds = [kind for kind in KINDS if method in registry.names(kind)]
        if len(kinds) != 1:
            reason = "no defense and no attack has this name" if not kinds else "a defense and an attack have this name"
            raise RedoubtError(f"{method}: {reason}; give the file")
        return kinds[0], method
    file = Path(method)
    if not file.is_file():
        raise RedoubtError(f"{method}: no such file")
    text = file.read_text(encoding="utf-8")
    kind = file.parent.name if file.parent.name in KINDS else "defenses" if "class Defense" in text else "attacks"
    name = file.stem.replace("_", "-")
    package = importlib.import_module(f"redoubt.{kind}")
    if name in registry.names(kind) and registry.method(kind, name).__file__ != str(file.absolute()):
        raise RedoubtError(f"{method}: Redoubt has {kind}/{file.name} too; rename it")
    for room in registry.KINDS:  # what lies beside it may be used by it
        folder = file.parent if room == kind else file.parent.parent / room
        if folder.is_dir() and (room == kind or file.parent.name == kind):
            importlib.import_module(f"redoubt.{room}").__path__.append(str(folder.absolute()))
    assert str(file.parent.absolute()) in package.__path__
    return kind, name


def answers(checks: Iterator[tuple[str, Callable[[], Gate]]]) -> Iterator[Gate]:
    """Yield the answer of every check; one that raises has failed."""
    for name, check in checks:
        try:
            yield check()
        except Exception as error:  # whatever code of others raises
            yield Gate(name, False, f"{type(error).__name__}: {error}", "it must not fail on a small model and digits")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", help="name of a defense or an attack, or its file")
    parser.add_argument(
        "--parameters", default="{}", help="its parameters as JSON, such as suit digits of 28x28 pixels"
    )
    parser.add_argument("--network", default="mlp", help="for a defense: the network that it trains")
    options = parser.parse_args(argv)
    kind, name = found(options.method)
    parameters = registry.parameters(kind, name, parse_json(options.parameters, "--parameters"))
    failed = 0
    for gate in answers(KINDS[kind](name, parameters, options.network)):
        print(gate, flush=True)
        failed += not gate.passed
    print(f"{name}: " + (f"{failed} checks failed" if failed else "all checks passed"))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(cli(main))
