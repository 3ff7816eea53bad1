"""What every registered attack promises, and what the interface refuses."""

import numpy as np
import pandas as pd
import pytest
import torch

from redoubt import registry
from redoubt.attacking import Victim, rows_of
from redoubt.attacks.interface import Batches, Context, check_images
from redoubt.errors import RedoubtError

PARAMETERS = {"deepfool": {"iterations": 30, "candidates": 4}, "fgs": {"epsilons": [0.2]}, "replay": {}}
ENGINES = [(name, engine) for name in PARAMETERS for engine in registry.method("attacks", name).ENGINES]


def test_every_attack_is_tested():
    assert set(PARAMETERS) == set(registry.names("attacks"))


def attacked(model, name, engine, images, labels, size=32):
    victim = Victim(model, "pixels")
    reads = None
    if name == "replay":  # on examples that another attack made
        parts = attacked(model, "deepfool", "redoubt", images, labels)[0]
        stored = list(torch.cat([part.inputs for part in parts]).flatten(1).numpy())
        reads = pd.DataFrame({"model": "m", "index": range(len(images)), "image": stored})
    positions = torch.arange(len(images))
    context = Context(torch.Generator().manual_seed(3), engine, victim.bounds, reads, positions)
    options = registry.parameters("attacks", name, PARAMETERS[name])
    batches = Batches(images, labels, size)
    crafted = list(registry.method("attacks", name).run(victim.network, batches, options, context))
    frames = []
    for part in crafted:
        own = slice(part.start, part.start + len(part.inputs))
        batch = {"inputs": images[own], "labels": labels[own]}
        batch["positions"] = positions[own]
        frames += rows_of(victim, part, batch, {"keep_images": True, "repetitions": 1})
    return crafted, pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize(("name", "engine"), ENGINES)
@pytest.mark.parametrize("network", ["mlp", "lenet"])
def test_it_fools_a_weak_model_and_leaves_it_alone(name, engine, network, request, digit_images, snapshot, unchanged):
    model = request.getfixturevalue(network)
    images, labels = (part[:60] for part in digit_images)
    before, copy = snapshot(model), images.clone()
    crafted, rows = attacked(model, name, engine, images, labels)
    assert unchanged(before, model) and torch.equal(images, copy) and not images.requires_grad
    clean, after = (
        (rows["clean_label"] == rows["label"]).mean(),
        (rows["adversarial_label"] == rows["label"]).mean(),
    )
    assert clean > 0.85 and after < clean - 0.3
    moved = torch.cat([part.inputs for part in crafted])
    assert [part.start for part in crafted] == [0, 32] and moved.shape == images.shape
    assert moved.min() >= 0 and moved.max() <= 1 and moved.dtype == torch.float32 and not moved.requires_grad
    assert rows["index"].tolist() == list(range(60)) and rows["label"].tolist() == labels.tolist()
    assert (rows["success"] == (rows["adversarial_label"] != rows["clean_label"])).all()
    assert rows["adversarial_label"].tolist() == model(moved).argmax(1).tolist()
    assert rows["l2"].to_numpy() == pytest.approx((moved - images).flatten(1).norm(dim=1).numpy(), rel=1e-4, abs=1e-6)
    assert (rows["linf"] <= rows["l2"] + 1e-9).all() and (rows["l2"] <= 28 * rows["linf"] + 1e-9).all()
    assert rows["x_l2"].to_numpy() == pytest.approx(images.flatten(1).norm(dim=1).numpy(), rel=1e-5)
    assert rows["probability_adversarial"].between(0.1, 1).all()
    assert np.array_equal(np.stack(rows["picture"]), moved.flatten(1).numpy())


@pytest.mark.parametrize(("name", "engine"), ENGINES)
def test_same_seed_same_bytes(name, engine, mlp, digit_images):
    images, labels = (part[:40] for part in digit_images)
    found = []
    for _ in range(2):
        parts, rows = attacked(mlp, name, engine, images, labels)
        found.append((b"".join(part.inputs.numpy().tobytes() for part in parts), rows.drop(columns="image").to_json()))
        torch.rand(7)  # the global generator is not where attacks draw from
    assert found[0] == found[1]


@pytest.mark.parametrize("name", PARAMETERS)
def test_batch_size_changes_nothing(name, mlp, digit_images):
    images, labels = (part[:40] for part in digit_images)
    one, other = (
        torch.cat([part.inputs for part in attacked(mlp, name, "redoubt", images, labels, size)[0]]) for size in (40, 3)
    )
    assert ((one - other).abs() > 1e-5).float().mean() < 1e-4


@pytest.mark.parametrize("name", PARAMETERS)
def test_unknown_parameters_are_named(name):
    with pytest.raises(RedoubtError, match="speed: unknown key"):
        registry.parameters("attacks", name, {**PARAMETERS[name], "speed": 3})


GOOD = torch.rand(4, 1, 5, 5)
LABELS = torch.zeros(4, dtype=torch.int64)
BAD = {
    "NaN": (
        torch.cat([GOOD, GOOD.new_full((1, 1, 5, 5), float("nan"))]),
        torch.zeros(5, dtype=torch.int64),
        r"\[0, 1\]",
    ),
    "above": (GOOD + 0.5, LABELS, r"expected values in \[0, 1\], got .* to 1\.\d+$"),
    "0-255": (255 * GOOD, LABELS, r"\[0, 1\]"),
    "below": (GOOD - 0.1 - GOOD.min(), LABELS, r"got -0\.1 to"),
    "infinite": (GOOD / 0, LABELS, r"\[0, 1\]"),
    "double": (GOOD.double(), LABELS, "expected float32"),
    "bytes": ((255 * GOOD).byte(), LABELS, r"got torch\.uint8 \(4, 1, 5, 5\)"),
    "flat": (GOOD.flatten(1), LABELS, r"float32 \(N, C, H, W\)"),
    "float labels": (GOOD, LABELS.float(), r"labels: expected int64 \(4,\)"),
    "fewer labels": (GOOD, LABELS[:3], r"got torch\.int64 \(3,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_other_images_are_refused_in_one_line(case):
    images, labels, message = BAD[case]
    with pytest.raises(RedoubtError, match=message) as caught:
        check_images(images, labels)
    assert "\n" not in str(caught.value)


def test_the_ends_of_the_range_are_images():
    check_images(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), LABELS[:2])
