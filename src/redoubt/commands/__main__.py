"""Redoubt: published claims about adversarial defenses, and your own models under strong attacks.

Each command says more with --help. A project is a folder with config/config.yaml: a checkout, or one that `redoubt new
project` made. Commands work in the one that they are called in or below.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

import redoubt
from redoubt.errors import RedoubtError, cli

COMMANDS = {
    "evaluate": "what strong attacks leave of a model of yours, and what speaks against the number",
    "attack": "run one attack on a model of yours",
    "conform": "hold a defense or an attack to what Redoubt promises of its own",
    "new": "write what a project, study, defense, attack, network, metric or figure begins with",
    "plan": "what a scale costs before it starts: jobs, hours, disk, and what is not available",
    "run": "make tables, figures and the report of a scale, or some of them",
    "show": "open the report in a browser",
    "export": "write a run as an RO-Crate, as summaries of papers, or as defenses for AutoAdvExBench",
    "compare": "set two runs beside each other: cells that changed, claims that turned",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Only the chosen one is imported, so that help takes no time.

    Raises:
        RedoubtError: what the command refuses, or a package of an extra is not installed.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    about, _, more = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(prog="redoubt", description=about, epilog=more)
    parser.add_argument("--version", action="version", version=f"redoubt {redoubt.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    chosen = words[0] if words else ""
    for name, text in COMMANDS.items():
        own = commands.add_parser(name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == chosen:
            module = importlib.import_module(f"redoubt.commands.{name}")
            own.description = module.__doc__
            module.add(own)
    options, rest = parser.parse_known_args(words)
    if rest and chosen != "run":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        done: int = module.run(options)
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "redoubt":
            raise
        raise RedoubtError(f"{error.name} is not installed; pip install 'redoubt[pipeline]'") from None
    return done


def script() -> int:
    """Run as the console script: an error that a user can fix is one line."""
    return cli(main)


if __name__ == "__main__":
    sys.exit(script())
