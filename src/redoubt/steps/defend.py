"""Make a defended model, from another model or from scratch; see the `models` of a study.

Reads a published dataset and the weights of the start, if there is one; writes weights.safetensors, model.json and
history.csv.
"""

import sys
from collections.abc import Sequence

from redoubt.errors import cli
from redoubt.steps import training_arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    return training_arguments.run(__doc__, starts=True, argv=argv)


if __name__ == "__main__":
    sys.exit(cli(main))
