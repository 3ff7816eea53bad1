"""Train one model: from scratch or from the weights of another; see `baselines` and `models` of a study.

Reads a published dataset, what preprocessing learned from it (see `redoubt.steps.prepare`) and the weights of the
start, if there is one; writes weights.safetensors, model.json, history.csv and trace.parquet.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from redoubt.errors import cli
from redoubt.files import parse_json
from redoubt.study.entries.model import ModelEntry
from redoubt.training.fit import fit


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True, help="the model's entry as JSON, as the workflow passes it")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and all other draws")
    parser.add_argument("--data", type=Path, required=True, help="folder of a published dataset")
    parser.add_argument("--preprocessing", type=Path, required=True, help="file of what preprocessing learned from it")
    parser.add_argument("--folder", type=Path, required=True, help="where the four files go")
    parser.add_argument("--start", type=Path, nargs="?", help="weights that training starts from, if any")
    parser.add_argument("--weights", type=Path, help="in its place: a user's file of weights, which the entry knows")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--resume", type=Path, default=Path("results/.resume"), help="where unfinished runs are kept")
    options = parser.parse_args(argv)
    entry = ModelEntry.parse(parse_json(options.entry, "--entry"))
    history = fit(
        entry,
        options.seed,
        options.data,
        options.preprocessing,
        options.folder,
        options.start or options.weights,
        options.device,
        options.threads,
        options.resume,
    )
    last = ", ".join(f"{key} {value:.4g}" for key, value in history[-1].items())
    print(f"{entry.id}: {last}")
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
