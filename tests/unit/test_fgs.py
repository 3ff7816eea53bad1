"""Fast gradient sign: closed forms, the search for epsilon, and Foolbox."""

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redoubt import registry
from redoubt.attacks import _losses as losses
from redoubt.attacks import fgs
from redoubt.attacks.interface import Batches, Context
from redoubt.errors import RedoubtError
from redoubt.evaluation.engine import implementation


def context(**changes):
    return Context(torch.Generator(), **changes)


def crafted(network, inputs, labels, size=64, ctx=None, engine="redoubt", **parameters):
    """Return epsilon to adversarial inputs (N, ...)."""
    found = {}
    run = implementation("attacks", "fgs", engine)
    for part in run(network, Batches(inputs, labels, size), fgs.Parameters(**parameters), ctx or context()):
        found.setdefault(part.facts["epsilon"], []).append(part.inputs)
    return {epsilon: torch.cat(parts) for epsilon, parts in found.items()}


def test_epsilon_of_one_image_has_a_closed_form(affine):
    weight = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    network = affine(weight, torch.tensor([0.3, -0.2]))
    for seed in range(8):
        inputs = torch.randn(1, 9, generator=torch.Generator().manual_seed(seed))
        logits = network(inputs)[0].detach()
        label = logits.argmax().reshape(1)
        expected = float((logits[label] - logits[1 - label]) / (weight[0] - weight[1]).abs().sum())
        (epsilon,) = crafted(network, inputs, label, error=0.5)
        assert expected * (1 - 1e-5) <= epsilon <= expected * (1 + 2e-4)


def test_error_never_falls_on_a_binary_affine_network(affine):
    draw = torch.Generator().manual_seed(4)
    network = affine(torch.randn(2, 20, generator=draw), torch.zeros(2))
    inputs, labels = torch.randn(300, 20, generator=draw), torch.randint(2, (300,), generator=draw)
    found = crafted(network, inputs, labels, epsilons=[0.0, 0.01, 0.05, 0.1, 0.3, 1.0, 3.0])
    wrong = [int((network(moved).argmax(1) != labels).sum()) for moved in found.values()]
    assert wrong == sorted(wrong) and wrong[0] < 200 and wrong[-1] == 300


@settings(max_examples=200, deadline=None)
@given(
    thresholds=st.lists(st.floats(1e-3, 900.0), min_size=1, max_size=40),
    share=st.sampled_from([0.1, 0.25, 0.5, 0.9]),
    limit=st.floats(1000.0, 5000.0),
)
def test_bisection_agrees_with_brute_force(thresholds, share, limit):
    def wrong(epsilon):
        return sum(epsilon >= threshold for threshold in thresholds)

    found = fgs.smallest_epsilon(wrong, len(thresholds), share, limit)
    exact = next(t for t in sorted(thresholds) if wrong(t) >= share * len(thresholds))
    assert wrong(found) >= share * len(thresholds) and exact <= found <= exact * (1 + 1.1e-4)


def test_exactly_half_is_enough():
    thresholds = [1.0, 2.0, 3.0, 4.0]
    calls = []

    def wrong(epsilon):
        calls.append(epsilon)
        return sum(epsilon >= threshold for threshold in thresholds)

    found = fgs.smallest_epsilon(wrong, 4, 0.5, 100.0)
    assert 2.0 <= found <= 2.0002 and wrong(found) == 2 and len(calls) < 40


@pytest.mark.parametrize("clean", [5, 6])
def test_epsilon_is_zero_when_clean_images_suffice(clean):
    assert fgs.smallest_epsilon(lambda epsilon: clean, 10, 0.5, 100.0) == 0.0


@pytest.mark.parametrize("limit", [50.0, 0.0])
def test_search_gives_up_with_one_line(limit):
    calls = []

    def wrong(epsilon):
        calls.append(epsilon)
        assert len(calls) < 100, "the search does not end"
        return 4

    with pytest.raises(RedoubtError, match=f"fewer than 50% .* at epsilon {limit:g}$") as caught:
        fgs.smallest_epsilon(wrong, 10, 0.5, limit)
    assert "\n" not in str(caught.value) and max(calls) <= limit


def test_half_of_the_images_are_misclassified_at_the_found_epsilon(mlp, digit_images):
    inputs, labels = mlp.preprocessing(digit_images[0]), digit_images[1]
    ((epsilon, moved),) = crafted(mlp.network, inputs, labels, error=0.5).items()
    assert int((mlp.network(moved).argmax(1) != labels).sum()) >= 225
    below = crafted(mlp.network, inputs, labels, epsilons=[epsilon * (1 - 2e-4)])
    assert int((mlp.network(*below.values()).argmax(1) != labels).sum()) <= 225
    assert 0 < epsilon < 60


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_foolbox_agrees_elementwise(name, bounds, request, digit_images):
    model = request.getfixturevalue(name)
    network = model.network if bounds is None else model
    inputs = model.preprocessing(digit_images[0][:64]) if bounds is None else digit_images[0][:64]
    epsilons = [8.0, 25.5] if bounds is None else [0.03, 0.2]
    both = [
        crafted(
            network,
            inputs,
            digit_images[1][:64],
            ctx=context(bounds=bounds),
            engine=engine,
            epsilons=epsilons,
        )
        for engine in fgs.ENGINES
    ]
    for epsilon in epsilons:
        differs = (both[0][epsilon] - both[1][epsilon]).abs() > 1e-4 * epsilon
        assert differs.float().mean() < 1e-4  # a gradient at rounding size may change its sign
        assert not torch.equal(both[0][epsilon], inputs)


def test_linf_never_passes_epsilon(mlp, digit_images):
    images, labels = digit_images[0][:50], digit_images[1][:50]
    for bounds in (None, (0.0, 1.0)):
        for epsilon, moved in crafted(mlp, images, labels, ctx=context(bounds=bounds), epsilons=[0.01, 0.3]).items():
            size = (moved - images).abs().amax()
            assert 0.99 * epsilon < size <= epsilon + 1e-6
            assert bounds is None or (moved.min() >= 0 and moved.max() <= 1)


def test_direction_is_the_sign_of_the_loss_gradient_at_the_true_label(affine):
    weight = torch.tensor([[1.0, -2.0, 0.0], [0.0, 1.0, 0.0]])
    network = affine(weight, torch.zeros(2))
    signs = fgs.direction(network, torch.tensor([[0.5, 0.1, 3.0], [0.5, 0.1, 3.0]]), torch.tensor([0, 1]))
    assert signs.tolist() == [[-1, 1, 0], [1, -1, 0]] and signs.dtype == torch.int8


def test_fractions_multiply_the_epsilon_that_was_read(mlp, digit_images):
    images, labels = digit_images[0][:10], digit_images[1][:10]
    reads = pd.DataFrame({"epsilon": [0.4, 0.4], "index": [0, 1]})
    batches = Batches(images, labels, 4)
    parts = list(fgs.run(mlp, batches, fgs.Parameters(fractions=[0.5, 1.0]), context(reads=reads)))
    assert [part.start for part in parts] == [0, 4, 8, 0, 4, 8]
    assert [part.facts for part in parts[::3]] == [
        {"epsilon": 0.2, "fraction": 0.5},
        {"epsilon": 0.4, "fraction": 1.0},
    ]
    assert abs(float((parts[0].inputs - images[:4]).abs().max()) - 0.2) < 1e-6
    with pytest.raises(RedoubtError, match=r"fractions.*reads"):
        list(fgs.run(mlp, batches, fgs.Parameters(fractions=[0.5]), context()))


def test_fractions_of_two_epsilons_are_refused(mlp, digit_images):
    batches = Batches(digit_images[0][:4], digit_images[1][:4], 4)
    reads = pd.DataFrame({"epsilon": [0.4, 0.5]})
    with pytest.raises(RedoubtError, match=r"needs rows of one epsilon; .* have 2"):
        list(fgs.run(mlp, batches, fgs.Parameters(fractions=[0.5]), context(reads=reads)))


def test_a_confident_model_hides_from_the_cross_entropy_alone(mlp, digit_images):
    images, labels = (part[:60] for part in digit_images)

    def confident(inputs):
        return 200 * mlp(inputs)

    signs = {loss: fgs.direction(confident, images, labels, loss) for loss in losses.LOSSES}
    blind = (signs["cross-entropy"] == 0).flatten(1).all(1)
    right = confident(images).argmax(1) == labels
    assert blind.float().mean() > 0.5
    for loss in ("log-odds", "margin"):
        moved = {name: confident(images + 0.3 * signs[name]).argmax(1) != labels for name in (loss, "cross-entropy")}
        assert not (signs[loss] == 0).flatten(1).all(1).any()
        assert moved[loss][right].float().mean() > moved["cross-entropy"][right].float().mean() + 0.3


@pytest.mark.parametrize("values", [{}, {"epsilons": [0.1], "error": 0.5}, {"error": 1.0}, {"epsilons": [-0.1]}])
def test_parameters_are_exactly_one_of_three(values):
    with pytest.raises(RedoubtError):
        registry.parameters("attacks", "fgs", values)
