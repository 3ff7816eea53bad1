"""Fit preprocessing on all training images of a dataset; models that preprocess alike share the file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save

from redoubt import registry
from redoubt.data import store
from redoubt.errors import cli
from redoubt.files import parse_json, read_json, write_all


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True, help="name and parameters of the preprocessing as JSON")
    parser.add_argument("--data", type=Path, required=True, help="folder of a published dataset")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    options = parser.parse_args(argv)
    entry = parse_json(options.entry, "--entry")
    module = registry.method("preprocessing", entry["name"])
    given = registry.parameters("preprocessing", entry["name"], dict(entry).get("parameters", {}))
    layer = module.build(given, tuple(read_json(options.data / "meta.json")["shape"]))
    split = store.load(options.data, "train")
    parts = [slice(first, first + 1000) for first in range(0, len(split), 1000)]
    module.fit(given, layer, lambda: (split.images(part).float() / 255 for part in parts))
    write_all({options.out: save({name: tensor.contiguous() for name, tensor in layer.state_dict().items()})})
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
