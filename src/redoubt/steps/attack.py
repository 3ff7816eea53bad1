"""Attack one model; see the `attacks` and `evaluations` of a study.

Reads weights (with model.json beside them), a published dataset and, for attacks that build on others, their rows;
writes one row per image (and per epsilon of a sweep) as parquet.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from redoubt.errors import cli
from redoubt.evaluation.run import attack
from redoubt.files import parse_json
from redoubt.rows import NONFINITE
from redoubt.study.entries.attack import AttackEntry


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True, help="the attack's entry as JSON, as the workflow passes it")
    parser.add_argument("--seed", type=int, default=0, help="seed of the model")
    parser.add_argument("--data", type=Path, required=True, help="folder of a published dataset")
    parser.add_argument("--weights", type=Path, required=True, help="weights.safetensors of the attacked model")
    parser.add_argument("--preprocessing", type=Path, required=True, help="file of what its preprocessing learned")
    parser.add_argument("--out", type=Path, required=True, help="parquet file to write")
    parser.add_argument("--crafted-on", type=Path, help="weights of another model that the examples are crafted on")
    parser.add_argument("--reads", type=Path, nargs="*", default=[], help="rows that the attack builds on")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--resume", type=Path, default=Path("results/.resume"), help="where unfinished runs are kept")
    options = parser.parse_args(argv)
    entry = AttackEntry.parse(parse_json(options.entry, "--entry"))
    frame = attack(
        entry,
        options.seed,
        options.data,
        options.weights,
        options.preprocessing,
        options.out,
        options.reads,
        options.device,
        options.threads,
        options.crafted_on,
        options.resume,
    )
    right = (frame["adversarial_label"] == frame["label"]).mean()
    line = f"{entry.id}: {len(frame)} rows, accuracy under attack {right:.4f}, mean l2 {frame['l2'].mean():.4g}"
    if share := frame.attrs.get(NONFINITE):
        line += f"; {share:.1%} of the gradients were not finite and were taken beside the point"
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
