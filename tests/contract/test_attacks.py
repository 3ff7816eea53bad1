"""What every registered attack promises, and what the interface refuses."""

import numpy as np
import pandas as pd
import pytest
import torch

from redoubt import registry
from redoubt.attacks import interface
from redoubt.errors import RedoubtError
from redoubt.evaluation.checks import check_images
from redoubt.evaluation.craft import craft

# Parameters that suit the digits; a ball, where there is one: its norm and the column or number that bounds it.
CASES = {
    "carlini-wagner": ({"steps": 40, "searches": 3}, None),
    "carlini-wagner-linf": ({"steps": 40}, None),
    "deepfool": ({"iterations": 30, "candidates": 4}, None),
    "few-pixel": ({"pixels": [100], "population": 20, "generations": 12}, ("l0", "pixels")),
    "fgs": ({"epsilons": [0.1, 0.2]}, ("linf", "epsilon")),
    "finite-difference": ({"epsilons": [0.1, 0.2], "steps": 3, "group": 8}, ("linf", "epsilon")),
    "gradient-scan": ({"loss": "log-odds"}, ("linf", "epsilon")),
    "growing-pgd": ({"steps": 10, "bisections": 6, "loss": "log-odds"}, ("linf", "epsilon")),
    "pgd": ({"epsilons": [0.1, 0.2], "steps": 10, "relative_step_size": 0.2}, ("linf", "epsilon")),
    "replay": ({}, None),
    "spatial": ({"rotations": 7, "translations": 3}, None),
    "universal": ({"rhos": [0.6], "passes": 3}, ("l2", "radius")),
}
# Attacks for the workflow alone: they look at a model and perturb nothing; their own tests are in tests/unit.
INSPECTIONS = {"peer-graph", "timing"}
# Long walks along signs: a gradient's last bit, which depends on the batch in a matrix product, may turn them.
ROUNDED = {"carlini-wagner-linf"}
FOOLBOX = {"pgd": {"stop": False}, "gradient-scan": {"loss": "cross-entropy"}}
ENGINES = [(name, engine) for name in CASES for engine in registry.method("attacks", name).ENGINES]


def test_every_attack_is_tested():
    assert set(CASES) == set(registry.names("attacks"))


def attacked(name, network, images, labels, engine="redoubt", **options):
    """Attack with the parameters of `CASES`; replay is given examples that DeepFool made on the same network."""
    parameters = CASES[name][0] | (FOOLBOX.get(name, {}) if engine == "foolbox" else {})
    if name == "replay":
        stored = craft("deepfool", network, images, labels, iterations=30).images.flatten(1).numpy()
        options["reads"] = pd.DataFrame({"model": "m", "index": range(len(images)), "image": list(stored)})
    return craft(name, network, images, labels, engine=engine, **options, **parameters)


def outside(name, images, result):
    """Return by how much any stored example leaves [0, 1] or its ball, in float64 and by NumPy alone."""
    moved = result.images.numpy().astype(np.float64)
    clean = np.concatenate([images.numpy().astype(np.float64)] * (len(moved) // len(images)))
    excess = max(-moved.min(), moved.max() - 1.0)
    if (ball := CASES[name][1]) is not None:
        norm, column = ball
        radius = result.rows[column].fillna(0.0).to_numpy()
        change = (moved - clean).reshape(len(moved), -1)
        if norm == "l0":
            change = np.abs(change).reshape(len(moved), images.shape[1], -1).max(1)
        size = {"linf": np.abs(change).max(1), "l2": np.sqrt((change**2).sum(1)), "l0": (change != 0).sum(1)}[norm]
        excess = max(excess, (size - radius).max())
    return excess


@pytest.mark.parametrize(("name", "engine"), ENGINES)
@pytest.mark.parametrize("network", ["mlp", "lenet"])
def test_it_fools_a_weak_model_and_leaves_it_alone(name, engine, network, request, digit_images, snapshot, unchanged):
    model = request.getfixturevalue(network)
    images, labels = (part[:40] for part in digit_images)
    before, copy, state = snapshot(model), images.clone(), torch.random.get_rng_state()
    result = attacked(name, model, images, labels, engine, batch_size=32)
    assert unchanged(before, model) and torch.equal(images, copy) and not images.requires_grad
    assert torch.equal(state, torch.random.get_rng_state())
    rows = result.rows
    clean, after = ((rows[column] == rows["label"]).mean() for column in ("clean_label", "adversarial_label"))
    assert clean > 0.85 and after < clean - 0.2
    assert outside(name, images, result) <= 1e-6
    assert result.images.dtype == torch.float32 and not result.images.requires_grad
    times = len(rows) // 40
    assert rows["index"].tolist() == [*range(40)] * times and rows["label"].tolist() == labels.tolist() * times
    assert result.images.shape == (40 * times, *images.shape[1:])
    assert (rows["success"] == (rows["adversarial_label"] != rows["clean_label"])).all()
    assert rows["adversarial_label"].tolist() == model(result.images).argmax(1).tolist()
    moved = (result.images - images.repeat(times, 1, 1, 1)).flatten(1)
    assert rows["l2"].to_numpy() == pytest.approx(moved.norm(dim=1).numpy(), rel=1e-4, abs=1e-6)
    assert rows["linf"].to_numpy() == pytest.approx(moved.abs().amax(1).numpy(), rel=1e-4, abs=1e-6)
    assert rows["x_l2"].to_numpy()[:40] == pytest.approx(images.flatten(1).norm(dim=1).numpy(), rel=1e-5)


@pytest.mark.parametrize(("name", "engine"), ENGINES)
def test_same_seed_same_bytes(name, engine, mlp, digit_images):
    images, labels = (part[:20] for part in digit_images)
    found = []
    for _ in range(2):
        result = attacked(name, mlp, images, labels, engine, generator=torch.Generator().manual_seed(3))
        found.append((result.images.numpy().tobytes(), result.rows.to_json()))
        torch.rand(7)  # the global generator is not where attacks draw from
    assert found[0] == found[1]


@pytest.mark.parametrize("name", CASES)
def test_batch_size_changes_nothing(name, mlp, digit_images):
    images, labels = (part[:20] for part in digit_images)
    one, *others = (attacked(name, mlp, images, labels, batch_size=size) for size in (20, 3, 1))
    for other in others:
        if name in ROUNDED:
            assert other.rows["success"].equals(one.rows["success"])
            assert other.rows["linf"].to_numpy() == pytest.approx(one.rows["linf"].to_numpy(), rel=0.02)
        else:
            assert ((one.images - other.images).abs() > 1e-5).float().mean() < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_it_does_not_matter_when_finished_images_leave(name, mlp, digit_images, monkeypatch):
    """On a GPU they leave every tenth iteration only, and no batch is looked at in between."""
    images, labels = (part[:12] for part in digit_images)
    one = attacked(name, mlp, images, labels)
    monkeypatch.setattr(interface, "thin_now", lambda iteration, device: iteration % 10 == 9)
    other = attacked(name, mlp, images, labels)
    if name in {*ROUNDED, "carlini-wagner"}:  # which goes on to improve what it has found while an image stays
        assert other.rows["success"].equals(one.rows["success"])
        for norm in ("l2", "linf"):
            assert other.rows[norm].to_numpy() == pytest.approx(one.rows[norm].to_numpy(), rel=0.05)
    else:
        assert ((one.images - other.images).abs() > 1e-5).float().mean() < 1e-4
        for column in set(one.rows) & {"iterations", "queries"}:
            assert (one.rows[column] - other.rows[column]).abs().mean() < 1


@pytest.mark.parametrize("name", CASES)
def test_images_that_are_wrong_already(name, mlp, digit_images):
    images, labels = (part[:20] for part in digit_images)
    labels = (mlp(images).argmax(1) + 1) % 10
    result = attacked(name, mlp, images, labels)
    assert outside(name, images, result) <= 1e-6
    if name not in ("deepfool", "fgs", "replay", "universal"):  # those leave the predicted class, or step anyway
        assert torch.equal(result.images[:20], images) and not result.rows["success"].any()


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", CASES)
def test_constant_images(name, level, mlp):
    images = torch.full((3, 1, 28, 28), level)
    result = attacked(name, mlp, images, mlp(images).argmax(1))
    assert torch.isfinite(result.images).all() and outside(name, images, result) <= 1e-6


@pytest.mark.parametrize(("name", "engine"), ENGINES)
def test_a_model_without_gradients_stays_unbeaten(name, engine, digit_images):
    def flat(inputs):
        logits = torch.zeros(10)
        logits[3] = 1.0
        return logits.expand(len(inputs), 10) + 0.0 * inputs.flatten(1).sum(1, keepdim=True)

    images, _ = (part[:4] for part in digit_images)
    result = attacked(name, flat, images, torch.full((4,), 3), engine)
    assert torch.isfinite(result.images).all() and outside(name, images, result) <= 1e-6
    assert not result.rows["success"].any() and (result.rows["adversarial_label"] == 3).all()


@pytest.mark.parametrize("name", CASES)
def test_it_says_what_it_is(name):
    method = registry.method("attacks", name)
    assert method.NEEDS in ("gradients", "logits", "labels", "examples")
    assert method.THREAT and method.COST and "Source:" in method.__doc__
    assert all(field.description for field in method.Parameters.model_fields.values())


@pytest.mark.parametrize("name", CASES)
def test_unknown_parameters_and_engines_are_named(name, mlp, digit_images):
    images, labels = (part[:2] for part in digit_images)
    with pytest.raises(RedoubtError, match="speed: unknown key"):
        registry.parameters("attacks", name, {**CASES[name][0], "speed": 3})
    with pytest.raises(RedoubtError, match=f"{name}: runs on .* not on 'art'"):
        attacked(name, mlp, images, labels, "art")


def test_a_model_in_training_mode_is_refused(mlp, digit_images):
    with pytest.raises(RedoubtError, match="deepfool: the model is in training mode"):
        craft("deepfool", mlp.train(), *(part[:2] for part in digit_images))


def test_a_model_that_is_not_finite_is_named(digit_images):
    images, labels = (part[:2] for part in digit_images)
    with pytest.raises(RedoubtError, match="logits on adversarial images are not finite"):
        craft("fgs", lambda inputs: inputs.flatten(1)[:, :10] / 0, images, labels, epsilons=[0.1])


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
