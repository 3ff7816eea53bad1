"""What every registered attack promises, and what the interface refuses."""

import importlib

import numpy as np
import pandas as pd
import pytest
import torch

from redoubt import registry
from redoubt.attacks import interface
from redoubt.attacks._expectation import Expectation
from redoubt.attacks._finite import Finite
from redoubt.attacks._kept import Keeping
from redoubt.attacks.interface import Batches, Crafted, score
from redoubt.errors import RedoubtError
from redoubt.evaluation.blocks import Unfinished, in_one
from redoubt.evaluation.checks import check_images
from redoubt.evaluation.craft import craft
from redoubt.evaluation.engine import implementation
from redoubt.graph.code import closure
from redoubt.study.entries.attack import AttackEntry
from redoubt.training.resume import Resume

# Parameters that suit the digits; a ball, where there is one: its norm and the column or number that bounds it.
CASES = {
    "apgd": ({"epsilons": [0.1, 0.2], "steps": 8, "targets": 2}, ("linf", "epsilon")),
    "carlini-wagner": ({"steps": 40, "searches": 3}, None),
    "carlini-wagner-linf": ({"steps": 40}, None),
    "ddn": ({"steps": 40}, None),
    "deepfool": ({"iterations": 30, "candidates": 4}, None),
    "few-pixel": ({"pixels": [100], "population": 20, "generations": 12}, ("l0", "pixels")),
    "fgs": ({"epsilons": [0.1, 0.2]}, ("linf", "epsilon")),
    "finite-difference": ({"epsilons": [0.1, 0.2], "steps": 3, "group": 8}, ("linf", "epsilon")),
    "fmn": ({"norm": "linf", "steps": 30}, None),
    "gradient-scan": ({"loss": "log-odds"}, ("linf", "epsilon")),
    "growing-pgd": ({"steps": 10, "bisections": 6, "loss": "log-odds"}, ("linf", "epsilon")),
    "minimal-apgd": ({"steps": 8, "targets": 1, "balls": 6}, None),
    "pgd": ({"epsilons": [0.1, 0.2], "steps": 10, "relative_step_size": 0.2}, ("linf", "epsilon")),
    "replay": ({}, None),
    "square": ({"epsilons": [0.2, 0.3], "iterations": 60}, ("linf", "epsilon")),
    "spatial": ({"rotations": 7, "translations": 3}, None),
    "trust-region": ({"steps": 100}, None),
    "universal": ({"rhos": [0.6], "passes": 3}, ("l2", "radius")),
}
# Long walks along signs: a gradient's last bit, which depends on the batch in a matrix product, may turn them.
ROUNDED = {"carlini-wagner-linf"}
FOOLBOX = {
    "ddn": {"loss": "cross-entropy", "shorten": False},
    "fmn": {"shorten": False},
    "gradient-scan": {"loss": "cross-entropy"},
    "pgd": {"stop": False},
}
ENGINES = [(name, engine) for name in CASES for engine in registry.method("attacks", name).ENGINES]


def test_every_attack_is_tested():
    assert {*CASES, "worst-of"} == set(registry.names("attacks"))  # that one crafts nothing: test_worst_of.py


def test_engines_know_the_attacks_that_say_so():
    for engine in registry.names("engines"):
        known = {name for name in CASES if engine in registry.method("attacks", name).ENGINES}
        assert known == set(importlib.import_module(registry.module_name("engines", engine)).ATTACKS)


def test_nothing_depends_on_an_engine_that_it_does_not_ask_for():
    modules = [
        registry.module_name(kind, name) for kind in ("attacks", "defenses", "probes") for name in registry.names(kind)
    ]
    found = closure("redoubt.steps.attack", "redoubt.steps.train", *modules)
    assert len(found) > 40 and not [name for name in found if name.startswith("redoubt.engines.")]


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
def test_it_fools_a_weak_model_and_leaves_it_alone(name, engine, mlp, digit_images, snapshot, unchanged):
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(1), mlp).eval()  # running statistics would tell
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


@pytest.mark.parametrize(("name", "engine"), ENGINES)
def test_blocks_of_images_change_nothing(name, engine, mlp, digit_images):
    """But for an attack that says that it is joint; what is crafted on all images is kept from block to block."""
    images, labels = (part[:6] for part in digit_images)
    others = FOOLBOX.get(name, {}) if engine == "foolbox" else {}
    parameters = registry.parameters("attacks", name, CASES[name][0] | others)
    entry = AttackEntry(id="blocks", attack=name)
    if in_one(entry, parameters, random=False):
        assert name == "replay"
        return
    batches, run = Batches(images, labels, 4), implementation("attacks", name, engine)
    found = []
    for whole in (True, False):
        kept = Unfinished(Resume(None), None, images.device)
        context = Keeping(torch.Generator().manual_seed(3), (0.0, 1.0), kept=kept)
        blocks = kept.left(batches, whole)
        parts = [list(run(mlp, block, parameters, context)) for _, block in blocks]
        assert len(blocks) == (1 if whole else 2)
        found.append([part for parts in zip(*parts, strict=True) for part in parts])
    assert [part.start for part in found[0]] == [part.start for part in found[1]]
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.inputs, other.inputs) and one.facts.keys() == other.facts.keys()
        for key in one.facts:
            np.testing.assert_array_equal(one.facts[key], other.facts[key])


def test_a_search_over_all_images_is_made_in_one_block():
    entry = AttackEntry(id="blocks", attack="fgs")
    cases = {"epsilons": [0.1], "error": 0.5, "fractions": [0.5]}
    joint = {key: in_one(entry, registry.parameters("attacks", "fgs", {key: cases[key]}), False) for key in cases}
    assert joint == {"epsilons": False, "error": True, "fractions": True}
    options = registry.parameters("probes", "logit-margins", {})
    assert in_one(AttackEntry(id="blocks", probe="logit-margins"), options, False)


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


@pytest.mark.parametrize("name", CASES)
def test_constant_images(name, mlp):
    images = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 1, 28, 28)
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


class Watched(torch.nn.Module):
    """A model that remembers the least and the greatest element that it was shown, and how often."""

    def __init__(self, network):
        super().__init__()
        self.network, self.low, self.high, self.calls = network, 0.5, 0.5, 0

    def forward(self, inputs):
        low, high = inputs.detach().aminmax()
        self.low, self.high, self.calls = min(self.low, float(low)), max(self.high, float(high)), self.calls + 1
        return self.network(inputs)


@pytest.mark.parametrize(("name", "engine"), ENGINES)
def test_the_model_is_shown_images_in_bounds_only(name, engine, mlp, digit_images):
    images, labels = (part[:20] for part in digit_images)
    watched = Watched(mlp).eval()
    attacked(name, watched, images, labels, engine)
    assert watched.calls > 2 and watched.low >= -1e-6 and watched.high <= 1 + 1e-6


class Root(torch.nn.Module):
    """The same logits, by way of a root: at black pixels the gradient is NaN, or infinite."""

    def __init__(self, network, kind):
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, inputs):
        if self.kind == "nan":
            return self.network((inputs**2).sqrt())
        root = inputs.sqrt()
        return self.network(inputs + 0.01 * (root - root.detach()))


@pytest.mark.parametrize("kind", ["nan", "inf"])
@pytest.mark.parametrize(("name", "engine"), ENGINES)
def test_gradients_that_are_not_finite_do_not_protect_a_model(name, engine, kind, mlp, digit_images):
    images, labels = (part[:30] for part in digit_images)
    plain, odd = (attacked(name, model, images, labels, engine) for model in (mlp, Root(mlp, kind).eval()))
    right = [(result.rows["adversarial_label"] == result.rows["label"]).mean() for result in (plain, odd)]
    assert right[1] <= right[0] + 0.1
    assert outside(name, images, odd) <= 1e-6 and torch.isfinite(odd.images).all()
    share = odd.rows.attrs["nonfinite_gradients"]
    assert plain.rows.attrs["nonfinite_gradients"] == 0.0
    if (name, engine) != ("carlini-wagner", "foolbox"):  # which works in the space of tanh, where nothing is black
        assert share > 0.2 if registry.method("attacks", name).NEEDS == "gradients" else share == 0.0


def test_the_gradient_beside_a_point_is_that_of_the_logits_slopes(mlp, digit_images):
    """A repaired gradient is the product of the same slopes in the logits, so scaled and masked losses stay right."""
    images, labels = digit_images[0][:8], (digit_images[1][:8] + 1) % 10  # the loss of a right label may vanish
    found = []
    for network in (mlp, Finite(Root(mlp, "nan"), (0.0, 1.0))):
        points = images.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(network(points), labels, reduction="none") * torch.arange(8.0)
        (slope,) = torch.autograd.grad(loss.sum(), points)
        found.append(slope.flatten(1))
    assert (found[1][0] == 0).all() and (found[0][1:] - found[1][1:]).norm() < 0.1 * found[0].norm()


@pytest.mark.parametrize("name", [name for name in CASES if registry.method("attacks", name).NEEDS == "gradients"])
def test_gradients_that_cannot_be_repaired_are_refused_with_their_share(name, mlp, digit_images):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, inputs):
            return inputs.clone()

        @staticmethod
        def backward(ctx, gradient):
            gradient = gradient.clone()
            gradient[:, :, :7] = float("nan")
            return gradient

    images, labels = (part[:4] for part in digit_images)
    for engine in registry.method("attacks", name).ENGINES:
        with pytest.raises(RedoubtError, match=r"^gradients are not finite: 25.0% of the elements, in \d of \d images"):
            attacked(name, lambda inputs: mlp(Broken.apply(inputs)), images, labels, engine)


def test_it_says_what_it_is():
    for name in CASES:
        method = registry.method("attacks", name)
        assert method.NEEDS in ("gradients", "logits", "labels", "examples")
        assert method.THREAT and method.COST and "Source:" in method.__doc__
        assert all(field.description for field in method.Parameters.model_fields.values())


def test_unknown_parameters_and_engines_are_named(mlp, digit_images):
    for name in CASES:
        with pytest.raises(RedoubtError, match="speed: unknown key"):
            registry.parameters("attacks", name, {**CASES[name][0], "speed": 3})
        with pytest.raises(RedoubtError, match=f"{name}: runs on .* not on 'art'"):
            attacked(name, mlp, *(part[:2] for part in digit_images), "art")


def test_a_misspelt_parameter_is_named_before_the_one_that_it_stands_for(mlp, digit_images):
    with pytest.raises(RedoubtError, match=r"^eps: unknown key; pgd has norm, epsilons, "):
        craft("pgd", mlp, *(part[:2] for part in digit_images), eps=[0.1])


def one_logit(mlp):
    return lambda inputs: mlp(inputs)[:, :1]


def flat_logits(mlp):
    return lambda inputs: mlp(inputs)[:, 0]


def mapped(mlp):
    return lambda inputs: {"logits": mlp(inputs)}


def half_trained(mlp):
    mlp.network.train()
    return mlp


def mean_of_half_trained(mlp):
    return Expectation(half_trained(mlp), 2)


def made_in_inference(mlp):
    with torch.inference_mode():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).eval()


MODELS = {
    one_logit: "the model has one logit",
    flat_logits: r"expected logits \(N, classes\), the model gives torch.float32 \(2,\) for 2 images",
    mapped: "the model gives dict of logits",
    half_trained: "its module network is in training mode",
    mean_of_half_trained: "its module network is in training mode",
    made_in_inference: r"the model's 1\.weight was made in torch\.inference_mode",
    lambda mlp: mlp.train(): "the model is in training mode",
    lambda mlp: lambda inputs: mlp(inputs) / 0: "the model's logits on clean images are not finite",
}


@pytest.mark.parametrize(("change", "message"), MODELS.items(), ids=[*map(str, range(len(MODELS)))])
def test_models_outside_of_what_attacks_assume_are_refused_by_all(change, message, mlp, digit_images, snapshot):
    images, labels = (part[:3] for part in digit_images)
    network, reads = change(mlp), pd.DataFrame({"model": "m", "index": range(3), "image": list(images.numpy())})
    for name, (parameters, _) in CASES.items():
        with pytest.raises(RedoubtError, match=f"^{name}: .*{message}") as caught:
            craft(name, network, images, labels, reads=reads, **parameters)
        assert "\n" not in str(caught.value)


def test_labels_and_targets_without_a_logit_are_refused(mlp, digit_images):
    images, labels = (part[:3] for part in digit_images)
    for name, (parameters, _) in CASES.items():
        for wrong in (-1, 10):
            with pytest.raises(RedoubtError, match=f"^{name}: labels: .*the model has classes 0 to 9"):
                craft(name, mlp, images, torch.tensor([0, wrong, 3]), **parameters)
        if "target" in registry.method("attacks", name).Parameters.model_fields and name != "universal":
            with pytest.raises(RedoubtError, match=f"^{name}: target: 10, the model has classes 0 to 9"):
                craft(name, mlp, images, labels, **parameters, target=10)


def test_inference_mode_is_refused_and_images_may_come_from_it(mlp, digit_images):
    images, labels = (part[:3] for part in digit_images)
    with torch.inference_mode():
        copies = images.clone(), labels.clone()
        with pytest.raises(RedoubtError, match="leave it first"):
            craft("fgs", mlp, images, labels, epsilons=[0.1])
    expected = craft("fgs", mlp, images, labels, epsilons=[0.1]).images
    assert torch.equal(craft("fgs", mlp, *copies, epsilons=[0.1]).images, expected)
    asking = images.clone().requires_grad_()
    assert torch.equal(craft("fgs", mlp, asking, labels, epsilons=[0.1]).images, expected) and asking.grad is None


def test_what_is_crafted_must_be_finite(mlp, digit_images):
    images, labels = (part[:3] for part in digit_images)
    crafted = Crafted(0, torch.cat([images[:1] / 0, images[1:]]))
    with pytest.raises(RedoubtError, match="crafted inputs that are not finite: 1 of 3 images"):
        score(lambda inputs: mlp(inputs.nan_to_num(0, 0, 0)), crafted, images, labels)


def test_logits_that_are_not_finite_on_the_way_are_noticed(mlp, digit_images):
    images = digit_images[0][digit_images[1] == 0][:3]  # NaN has its largest element at class 0, so none looks wrong
    labels = torch.zeros(3, dtype=torch.int64)

    def network(inputs):  # finite on the images and on what comes of them, not on all that the search tries
        odd = inputs[:, 0, 0].amax(1) > 0.9
        return torch.where(odd[:, None], float("nan"), mlp(inputs))

    with pytest.raises(RedoubtError, match="logits are not finite on images that the attack tried"):
        craft("few-pixel", network, images, labels, pixels=[20], population=20, generations=0)


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
    "none": (GOOD[:0], LABELS[:0], "there are none"),
    "an array": (GOOD.numpy(), LABELS, "images: expected a torch tensor, got ndarray"),
    "listed labels": (GOOD, [0, 0, 0, 0], "labels: expected a torch tensor, got list"),
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
