"""DeepFool against closed forms, its own invariants and Foolbox."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redoubt.attacks import deepfool
from redoubt.attacks.interface import Batches, Context
from redoubt.evaluation.engine import implementation

Parameters = deepfool.Parameters


def closed_form(weight, bias, inputs):
    """Return the minimal l2 perturbation of each input to the nearest boundary of an affine classifier."""
    logits = inputs @ weight.T + bias
    result = torch.empty_like(inputs)
    for row, (scores, own) in enumerate(zip(logits, logits.argmax(1), strict=True)):
        found = []
        for other in range(len(scores)):
            if other != own:
                normal = weight[other] - weight[own]
                gap = scores[own] - scores[other]
                found.append((gap / normal.norm(), gap / normal.norm() ** 2 * normal))
        result[row] = min(found, key=lambda pair: pair[0])[1]
    return result


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 7), overshoot=st.sampled_from([0.0, 0.02, 0.5]))
def test_one_step_is_the_minimal_perturbation_of_an_affine_classifier(seed, classes, overshoot):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, 12, generator=draw, dtype=torch.float64)
    bias = torch.randn(classes, generator=draw, dtype=torch.float64)
    inputs = torch.randn(9, 12, generator=draw, dtype=torch.float64)
    parameters = Parameters(iterations=1, overshoot=overshoot, guard=1e-12)
    found, predicted, steps = deepfool.perturb(lambda x: x @ weight.T + bias, inputs, parameters)
    expected = (1 + overshoot) * closed_form(weight, bias, inputs)
    assert torch.equal(predicted, (inputs @ weight.T + bias).argmax(1)) and len(steps) == 1
    assert ((found - expected).norm(dim=1) <= 1e-5 * expected.norm(dim=1)).all()


def test_with_overshoot_an_affine_classifier_is_fooled_in_one_step(affine):
    network = affine(torch.randn(5, 8, generator=torch.Generator().manual_seed(1)), torch.zeros(5))
    inputs = torch.randn(50, 8, generator=torch.Generator().manual_seed(2))
    found, predicted, steps = deepfool.perturb(network, inputs, Parameters(iterations=50))
    assert (network(inputs + found).argmax(1) != predicted).all()
    assert len(steps) == 1


def test_fooled_images_stop_moving(mlp, digit_images):
    inputs = mlp.preprocessing(digit_images[0][:60])
    perturbations = [deepfool.perturb(mlp.network, inputs, Parameters(iterations=n))[0] for n in (1, 2, 3, 50)]
    predicted = mlp.network(inputs).argmax(1)
    checked = 0
    for earlier, later in itertools.pairwise(perturbations):
        fooled = mlp.network(inputs + earlier).argmax(1) != predicted
        checked += int(fooled.sum())
        assert torch.allclose(earlier[fooled], later[fooled], atol=1e-4, rtol=1e-5)
        assert ((earlier[~fooled] - later[~fooled]).flatten(1).norm(dim=1) > 1e-3).all()
    assert checked > 60
    assert (mlp.network(inputs + perturbations[-1]).argmax(1) != predicted).all()


def test_steps_tell_who_moved_from_where_to_where(mlp, digit_images):
    inputs = mlp.preprocessing(digit_images[0][:40])
    _, predicted, steps = deepfool.perturb(mlp.network, inputs, Parameters(iterations=10))
    assert steps[0].rows.tolist() == list(range(40)) and 1 < len(steps) <= 10
    for before, after in itertools.pairwise(steps):
        assert set(after.rows.tolist()) <= set(before.rows.tolist())
    assert len(steps[-1].rows) < 40
    for step in steps:
        assert torch.equal(step.sources, predicted[step.rows]) and (step.targets != step.sources).all()


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_result_does_not_depend_on_batch_or_order(name, request, digit_images):
    model = request.getfixturevalue(name)
    inputs = model.preprocessing(digit_images[0][:24])
    parameters = Parameters(iterations=5)
    whole = deepfool.perturb(model.network, inputs, parameters)[0]
    scale = whole.abs().max()
    for parts in ([1] * 24, [7, 17], [23, 1]):
        split = torch.cat([deepfool.perturb(model.network, part, parameters)[0] for part in inputs.split(parts)])
        assert (split - whole).abs().max() <= 1e-5 * scale
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    assert (deepfool.perturb(model.network, inputs[order], parameters)[0] - whole[order]).abs().max() <= 1e-5 * scale


def test_network_and_inputs_are_left_alone(mlp, digit_images, snapshot, unchanged):
    network = torch.nn.Sequential(mlp.network, torch.nn.BatchNorm1d(10)).eval()
    inputs = mlp.preprocessing(digit_images[0][:16])
    copy, before = inputs.clone(), snapshot(network)
    deepfool.perturb(network, inputs, Parameters())
    assert torch.equal(inputs, copy) and not inputs.requires_grad and unchanged(before, network)


def test_constant_images_stay_finite(mlp):
    inputs = torch.zeros(2, 1, 28, 28)
    found = deepfool.perturb(mlp.network, inputs, Parameters(iterations=50))[0]
    assert torch.isfinite(found).all()
    assert (mlp.network(inputs + found).argmax(1) != mlp.network(inputs).argmax(1)).all()


def test_zero_gradients_give_no_perturbation(affine):
    network = affine(torch.zeros(3, 4), torch.tensor([3.0, 1.0, 2.0]))
    inputs = torch.randn(5, 4)
    found, predicted, _ = deepfool.perturb(network, inputs, Parameters(iterations=3))
    assert torch.equal(found, torch.zeros(5, 4)) and (network(inputs + found).argmax(1) == predicted).all()


def test_towards_reaches_the_label_and_leaves_right_ones_alone(mlp, digit_images):
    inputs = mlp.preprocessing(digit_images[0][:60])
    ranked = mlp.network(inputs).argsort(1, descending=True)
    towards = torch.cat([ranked[:10, 0], ranked[10:40, 1], ranked[40:, 2]])
    found, _, steps = deepfool.perturb(mlp.network, inputs, Parameters(iterations=50), towards=towards)
    assert (mlp.network(inputs + found).argmax(1) == towards).float().mean() >= 0.9  # Newton's steps may cycle
    assert torch.equal(found[:10], torch.zeros_like(found[:10])) and (found[10:].flatten(1).norm(dim=1) > 0).all()
    assert all(torch.equal(step.targets, towards[step.rows]) for step in steps)


def test_towards_reaches_any_label_of_an_affine_classifier(affine):
    draw = torch.Generator().manual_seed(6)
    network = affine(torch.randn(4, 30, generator=draw), torch.zeros(4))
    inputs, towards = torch.randn(80, 30, generator=draw), torch.arange(80) % 4
    found, _, _ = deepfool.perturb(network, inputs, Parameters(iterations=50), towards=towards)
    assert torch.equal(network(inputs + found).argmax(1), towards)


def test_towards_leaves_the_class_that_is_predicted_now(affine):
    # From class 0, the step towards class 2 crosses into class 1 first; its next step must leave class 1.
    weight = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-1.0, 0.4]])
    network = affine(weight, torch.tensor([0.0, 0.0, 0.0]))
    _, _, steps = deepfool.perturb(network, torch.tensor([[1.0, 0.1]]), Parameters(iterations=9), torch.tensor([2]))
    assert [step.sources.item() for step in steps][:2] == [0, 1]


def test_candidates_cap_the_classes_considered(mlp, digit_images):
    inputs = mlp.preprocessing(digit_images[0][:50])
    ranked = mlp.network(inputs).argsort(1, descending=True)
    for cap in (2, 4):
        _, _, steps = deepfool.perturb(mlp.network, inputs, Parameters(iterations=1, candidates=cap))
        allowed = ranked[:, 1:cap]
        assert (steps[0].targets[:, None] == allowed).any(1).all()
    _, _, steps = deepfool.perturb(mlp.network, inputs, Parameters(iterations=1, candidates=10))
    assert not (steps[0].targets[:, None] == ranked[:, 1:2]).any(1).all()


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_foolbox_agrees(name, bounds, request, digit_images):
    model = request.getfixturevalue(name)
    network = model.network if bounds is None else model
    inputs = model.preprocessing(digit_images[0][:200]) if bounds is None else digit_images[0][:200]
    batches = Batches(inputs, digit_images[1][:200], 200)
    predicted = network(inputs).argmax(1)
    parameters = Parameters(iterations=10 if bounds is None else 50, overshoot=0.02, candidates=6)
    fooled, sizes = {}, {}
    for engine in deepfool.ENGINES:
        run = implementation("attacks", "deepfool", engine)
        (crafted,) = run(network, batches, parameters, Context(torch.Generator(), bounds))
        fooled[engine] = network(crafted.inputs).argmax(1) != predicted
        sizes[engine] = (crafted.inputs - inputs).flatten(1).norm(dim=1)
    assert int((fooled["redoubt"] != fooled["foolbox"]).sum()) <= 1 and fooled["redoubt"].float().mean() > 0.9
    assert abs(sizes["redoubt"].mean() / sizes["foolbox"].mean() - 1) < 0.02
    assert (sizes["redoubt"] / sizes["foolbox"] - 1).abs().median() < 0.001


def test_bounds_are_kept(mlp, digit_images):
    images, labels = digit_images[0][:20], digit_images[1][:20]
    (crafted,) = deepfool.run(mlp, Batches(images, labels, 20), Parameters(), Context(torch.Generator(), bounds=(0, 1)))
    assert crafted.inputs.min() >= 0 and crafted.inputs.max() <= 1 and not torch.equal(crafted.inputs, images)
