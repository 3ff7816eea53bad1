"""Fit preprocessing on all training images of a dataset, once for all models that share both.

Reads a published dataset; writes what the preprocessing learns as one safetensors file.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from redoubt import device
from redoubt.data import store
from redoubt.errors import cli
from redoubt.files import parse_json, read_json, write_all
from redoubt.models.weights import fit_preprocessing
from redoubt.study.entries.base import Method
from redoubt.training.fit import train_digest


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True, help="name and parameters of the preprocessing as JSON")
    parser.add_argument("--data", type=Path, required=True, help="folder of a published dataset")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    options = parser.parse_args(argv)
    named = Method.parse(parse_json(options.entry, "--entry"))
    device.choose("cpu", 1)  # one thread: the same bytes on machines with other numbers of cores
    meta, split = read_json(options.data / "meta.json"), store.load(options.data, "train")

    def batches() -> Iterator[torch.Tensor]:
        for part in torch.arange(len(split)).split(1000):
            yield split.images(part).float() / 255.0

    layer, content = fit_preprocessing(named, tuple(meta["shape"]), batches, train_digest(meta))
    write_all({options.out: content})
    numbers = sum(tensor.numel() for tensor in layer.buffers())
    print(f"{named.name}: {numbers} numbers from {len(split)} images of {meta['name']}")
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
