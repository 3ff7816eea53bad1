"""Replay: stored examples of each source, in order."""

import numpy as np
import pandas as pd
import pytest
import torch

from redoubt.attacks import replay
from redoubt.attacks.interface import Batches, Context
from redoubt.errors import RedoubtError


def stored(models, count):
    draw = np.random.default_rng(0)
    rows = [
        {"model": model, "index": 3 * place, "image": draw.random(784, np.float32)}
        for model in models
        for place in range(count)
    ]
    return pd.DataFrame(rows)


def run(reads, images, size=2):
    batches = Batches(images, torch.zeros(len(images), dtype=torch.int64), size)
    context = Context(torch.Generator(), reads=reads, positions=3 * torch.arange(len(images)))
    return list(replay.run(None, batches, replay.Parameters(), context))


def test_examples_come_back_by_source_and_position():
    reads = stored(["second", "first"], 5)
    parts = run(reads, torch.zeros(5, 1, 28, 28))
    assert [(part.facts["source"], part.start, len(part.inputs)) for part in parts] == [
        (source, start, count) for source in ("second", "first") for start, count in ((0, 2), (2, 2), (4, 1))
    ]
    found = torch.cat([part.inputs for part in parts])
    assert found.dtype == torch.float32 and found.shape == (10, 1, 28, 28)
    assert np.array_equal(found.flatten(1).numpy(), np.stack(reads["image"]))


@pytest.mark.parametrize("reads", [None, pd.DataFrame({"model": ["a"], "l2": [1.0]})])
def test_rows_without_images_are_refused(reads):
    with pytest.raises(RedoubtError, match="keep_images"):
        run(reads, torch.zeros(1, 1, 28, 28))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_another_number_of_examples_is_refused(count):
    with pytest.raises(RedoubtError, match=f"the {count} stored examples of a are not of the 4 images"):
        run(stored(["a"], count), torch.zeros(4, 1, 28, 28))


def test_examples_of_other_images_are_refused():
    reads = stored(["a"], 4)
    reads.loc[2, "index"] += 1
    with pytest.raises(RedoubtError, match=r"the 4 stored examples of a are not of the 4 images .* same `select`"):
        run(reads, torch.zeros(4, 1, 28, 28))
