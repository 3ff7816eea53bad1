"""The command line that pretraining and defending share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from redoubt.files import parse_json
from redoubt.training.fit import fit


def parser(description: str, starts: bool) -> argparse.ArgumentParser:
    """Return the parser; `starts` tells whether training may start from other weights."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--entry", required=True, help="the model's entry as JSON, as the workflow passes it")
    result.add_argument("--seed", type=int, default=0, help="of weights, order and all other draws")
    result.add_argument("--data", type=Path, required=True, help="folder of a published dataset")
    result.add_argument("--folder", type=Path, required=True, help="where weights, model.json and history.csv go")
    if starts:
        result.add_argument("--start", type=Path, nargs="?", help="weights that training starts from, if it does")
    result.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    result.add_argument("--threads", type=int, default=1, help="CPU threads")
    result.add_argument("--resume", type=Path, default=Path("results/.resume"), help="where unfinished runs are kept")
    return result


def run(description: str, starts: bool, argv: Sequence[str] | None) -> int:
    """Parse, train, and tell how it ended."""
    options = parser(description, starts).parse_args(argv)
    entry = parse_json(options.entry, "--entry")
    start = options.start if starts else None
    history = fit(
        entry, options.seed, options.data, options.folder, start, options.device, options.threads, options.resume
    )
    last = ", ".join(f"{key} {value:.4g}" for key, value in history[-1].items())
    print(f"{entry['id']}: {last}")
    return 0
