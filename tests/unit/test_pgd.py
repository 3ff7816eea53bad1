"""PGD: closed forms, projections, starts, what is kept of several tries, and Foolbox."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redoubt import registry
from redoubt.attacks import fgs, pgd
from redoubt.attacks._losses import Goal
from redoubt.attacks.interface import Batches, Context
from redoubt.errors import RedoubtError
from redoubt.evaluation.craft import craft

FREE = Context(torch.Generator().manual_seed(1))
BOX = Context(torch.Generator().manual_seed(1), bounds=(0.0, 1.0))


def attacked(network, inputs, labels, context=FREE, size=64, **parameters):
    """Return adversarial inputs (N, ...) by epsilon."""
    options = registry.parameters("attacks", "pgd", parameters)
    found = {}
    for part in pgd.run(network, Batches(inputs, labels, size), options, context):
        found.setdefault(part.facts["epsilon"], []).append(part.inputs)
    return {epsilon: torch.cat(parts) for epsilon, parts in found.items()}


def wrong(network, inputs, labels):
    return network(inputs).argmax(1) != labels


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("stop", [True, False])
def test_an_affine_network_falls_at_its_distance_and_not_before(norm, dual, stop, affine):
    draw = torch.Generator().manual_seed(0)
    weight, inputs = torch.randn(2, 30, generator=draw), torch.randn(40, 30, generator=draw)
    network = affine(weight, torch.tensor([0.2, -0.1]))
    logits = network(inputs).detach()
    labels = logits.argmax(1)
    gap = logits.amax(1) - logits.amin(1)
    distances = gap / (weight[0] - weight[1]).norm(p=dual)
    for share, falls in ((0.995, False), (1.005, True)):
        for row, distance in enumerate(distances.tolist()):
            options = {"norm": norm, "epsilons": [share * distance], "steps": 10, "random_start": False, "stop": stop}
            (moved,) = attacked(
                network, inputs[row : row + 1], labels[row : row + 1], relative_step_size=0.3, **options
            ).values()
            assert bool(wrong(network, moved, labels[row : row + 1])) == falls


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    norm=st.sampled_from(["linf", "l2"]),
    radius=st.floats(0.0, 3.0),
    scale=st.floats(0.0, 1e4),
    bounded=st.booleans(),
)
def test_projected_points_lie_in_the_ball_and_the_bounds(seed, norm, radius, scale, bounded):
    draw = torch.Generator().manual_seed(seed)
    centres = torch.rand(5, 2, 4, generator=draw)
    points = centres + scale * torch.randn(5, 2, 4, generator=draw)
    radii = torch.full((5,), radius)
    found = pgd.project(points, centres, radii, norm, (0.0, 1.0) if bounded else None)
    order = float("inf") if norm == "linf" else 2
    assert (found - centres).flatten(1).double().norm(p=order, dim=1).max() <= radius * (1 + 1e-6) + 1e-6
    assert not bounded or (found.min() >= 0 and found.max() <= 1)
    inside = (points - centres).flatten(1).norm(p=order, dim=1) <= radius * (1 - 1e-6)
    near = points if not bounded else points.clamp(0, 1)
    assert torch.allclose(found[inside], near[inside], atol=1e-5)


def test_the_nearest_point_of_the_ball_is_taken():
    centre, point = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    radius = torch.tensor([1.0])
    assert pgd.project(point, centre, radius, "l2", None)[0].tolist() == pytest.approx([0.6, 0.8])
    assert pgd.project(point, centre, radius, "linf", None).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_foolbox_agrees(norm, name, request, digit_images):
    model = request.getfixturevalue(name)
    gradient = Goal("cross-entropy").gradient(model, *digit_images)[2]
    felt = gradient.flatten(1).norm(dim=1) > 1e-6  # Foolbox divides by at least 1e-12, and stands still below it
    images, labels = (part[felt][:60] for part in digit_images)
    assert len(labels) >= 40
    options = {"norm": norm, "steps": 15, "relative_step_size": 0.1, "random_start": False, "stop": False}
    epsilons = [0.05, 0.15] if norm == "linf" else [0.5, 2.0]
    ours, theirs = (
        craft("pgd", model, images, labels, engine=engine, epsilons=epsilons, **options) for engine in pgd.ENGINES
    )
    assert ((ours.images - theirs.images).abs() > 1e-3).float().mean() < 0.01
    difference = ours.rows["adversarial_label"] != theirs.rows["adversarial_label"]
    assert difference.sum() <= 1 and 0.1 < ours.rows["success"].mean() < 0.99
    assert ours.rows[["l2", "linf"]].mean().to_numpy() == pytest.approx(
        theirs.rows[["l2", "linf"]].mean().to_numpy(), rel=0.02
    )


def test_foolbox_hits_the_same_target(mlp, digit_images):
    images, labels = (part[:100] for part in digit_images)
    options = {"epsilons": [0.15], "steps": 15, "random_start": False, "stop": False, "target": 3}
    ours, theirs = (craft("pgd", mlp, images, labels, engine=engine, **options) for engine in pgd.ENGINES)
    hits = [result.rows["adversarial_label"].eq(3) for result in (ours, theirs)]
    assert (hits[0] != hits[1]).sum() <= 1 and hits[0].mean() > 0.2


@pytest.mark.parametrize("change", [{"loss": "margin"}, {"restarts": 2}, {"stop": True}])
def test_foolbox_refuses_what_it_does_not_have(change, mlp, digit_images):
    options = {"epsilons": [0.1], "stop": False, **change}
    with pytest.raises(RedoubtError, match="Foolbox's engine needs"):
        craft("pgd", mlp, *(part[:4] for part in digit_images), engine="foolbox", **options)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_are_uniform_in_the_ball(norm):
    inputs = torch.zeros(4000, 3)
    starts = pgd.random_start(inputs, torch.full((4000,), 2.0), norm, FREE, range(4000), ("tag",))
    if norm == "linf":
        shares = (starts + 2) / 4
    else:
        lengths = starts.norm(dim=1)
        assert lengths.max() <= 2.0
        shares = ((lengths / 2) ** 3)[:, None]  # the share of the ball within a length
        assert starts.mean(0).abs().max() < 0.06 and (starts > 0).float().mean(0).sub(0.5).abs().max() < 0.03
    for column in shares.T:
        steps = torch.arange(1, 4001) / 4000
        assert (column.sort().values - steps).abs().max() < 0.03  # Kolmogorov's distance; 0.026 at 1 %
    assert torch.unique(starts, dim=0).shape == starts.shape


def test_restarts_draw_anew_and_batches_do_not_matter(mlp, digit_images):
    images, labels = (part[:12] for part in digit_images)
    calls = []

    def network(inputs):
        calls.append(inputs.detach().clone())
        return torch.zeros(len(inputs), 10).scatter(1, labels[: len(inputs), None], 1.0) + 0 * inputs.sum()

    attacked(network, images, labels, BOX, epsilons=[0.2], steps=1, restarts=2)
    starts = calls[1], calls[3]
    assert not torch.equal(*starts) and all((start - images).abs().amax() > 0.15 for start in starts)
    options = {"epsilons": [0.05, 0.1], "steps": 5, "restarts": 2}
    whole, parts = (attacked(mlp, images, labels, BOX, size, **options) for size in (12, 5))
    for epsilon, found in whole.items():
        assert (found - parts[epsilon]).abs().max() < 1e-5


def test_batch_order_does_not_matter(mlp, digit_images):
    images, labels = (part[:12] for part in digit_images)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    options = {"epsilons": [0.1], "steps": 5}
    straight, mixed = (
        attacked(
            mlp,
            images[rows],
            labels[rows],
            Context(torch.Generator().manual_seed(1), bounds=(0, 1), positions=rows),
            **options,
        )[0.1]
        for rows in (torch.arange(12), order)
    )
    assert (straight[order] - mixed).abs().max() < 1e-5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_success_never_falls_with_epsilon_steps_or_restarts(norm, mlp, digit_images):
    images, labels = (part[:200] for part in digit_images)
    sizes = [0.02, 0.05, 0.1, 0.2] if norm == "linf" else [0.2, 0.6, 1.5, 3.0]
    options = {"norm": norm, "epsilons": sizes, "steps": 6, "relative_step_size": 0.2}
    sweep = [wrong(mlp, moved, labels) for moved in attacked(mlp, images, labels, BOX, **options).values()]
    for smaller, larger in pairwise(sweep):
        assert (larger | ~smaller).all()
    assert sweep[0].float().mean() < 0.5 < sweep[-1].float().mean()
    size = {"norm": norm, "epsilons": [sizes[1]], "step_size": sizes[1] / 8, "random_start": False}
    few, more = (wrong(mlp, attacked(mlp, images, labels, BOX, steps=n, **size)[sizes[1]], labels) for n in (4, 16))
    assert (more | ~few).all() and more.sum() > few.sum()
    size = {"norm": norm, "epsilons": [sizes[2]], "steps": 1, "relative_step_size": 0.2}
    few, more = (wrong(mlp, attacked(mlp, images, labels, BOX, restarts=n, **size)[sizes[2]], labels) for n in (1, 12))
    assert (more | ~few).all() and more.sum() > few.sum()


def test_the_best_of_several_starts_is_kept(affine):
    def network(inputs):  # class 1 only in a corner that no gradient leads to
        hit = ((inputs[:, 0] > 0.9) & (inputs[:, 1] > 0.4)).float()
        return torch.stack([0.5 - 0 * inputs.sum(1), hit], 1)

    inputs, labels = torch.full((60, 2), 0.5), torch.zeros(60, dtype=torch.int64)
    options = {"epsilons": [0.45], "steps": 1, "step_size": 1e-6}
    one, many = (
        wrong(network, attacked(network, inputs, labels, BOX, restarts=n, **options)[0.45], labels).sum()
        for n in (1, 40)
    )
    assert one < 15 and many > 45
    kept = attacked(network, inputs, labels, BOX, restarts=40, stop=False, **options)[0.45]
    assert wrong(network, kept, labels).sum() > 45  # a later start that fails does not replace it


def test_without_stop_the_highest_point_of_all_starts_is_kept():
    def network(inputs):
        return torch.stack([10 - inputs[:, 0], torch.zeros(len(inputs))], 1) + 0 * inputs.sum()

    inputs, labels = torch.full((8, 1), 0.5), torch.zeros(8, dtype=torch.int64)
    options = {"epsilons": [0.4], "steps": 1, "step_size": 1e-9, "stop": False}
    found = [attacked(network, inputs, labels, BOX, restarts=n, **options)[0.4] for n in (1, 2, 8)]
    assert (found[1] >= found[0]).all() and (found[2] >= found[1]).all() and found[2].mean() > found[0].mean() + 0.1


def test_one_step_of_epsilon_is_fgsm(lenet, digit_images):
    images, labels = (part[:40] for part in digit_images)
    options = {"epsilons": [0.1], "steps": 1, "random_start": False, "stop": False}
    moved = attacked(lenet, images, labels, BOX, **options)[0.1]
    expected = fgs.perturb(images, fgs.direction(lenet, images, labels), 0.1, (0.0, 1.0))
    assert ((moved - expected).abs() > 1e-6).float().mean() < 1e-3


def test_i_fgsm_steps_are_epsilon_over_steps():
    options = registry.parameters("attacks", "pgd", {"epsilons": [0.3]})
    assert options.length(0.3) == pytest.approx(0.3 / 40)
    assert registry.parameters("attacks", "pgd", {"epsilons": [0.3], "step_size": 0.01}).length(0.3) == 0.01
    relative = registry.parameters("attacks", "pgd", {"epsilons": [0.3], "relative_step_size": 0.25})
    assert relative.length(0.2) == pytest.approx(0.05)


def test_wrong_images_and_finished_images_stay(mlp, digit_images):
    images, labels = (part[:60] for part in digit_images)
    labels = torch.where(torch.arange(60) % 3 == 0, (mlp(images).argmax(1) + 1) % 10, mlp(images).argmax(1))
    found = craft("pgd", mlp, images, labels, epsilons=[0.1, 0.3], steps=10)
    first, second = found.images.split(60)
    assert torch.equal(first[::3], images[::3]) and torch.equal(second[::3], images[::3])
    fallen = wrong(mlp, first, labels)
    assert torch.equal(first[fallen], second[fallen])
    iterations = found.rows["iterations"].to_numpy().reshape(2, 60)
    assert (iterations[:, ::3] == 0).all() and (iterations[0][~fallen.numpy()] == 10).all()


def test_every_image_gets_the_target(mlp, digit_images):
    images, labels = (part[:60] for part in digit_images)
    found = craft("pgd", mlp, images, labels, epsilons=[0.5], steps=40, target=7)
    assert found.rows["adversarial_label"].eq(7).mean() > 0.9
    already = torch.tensor(found.rows["clean_label"].eq(7).tolist())
    assert already.any() and torch.equal(found.images[already], images[already])


def test_a_zero_gradient_moves_nothing():
    def flat(inputs):
        return torch.tensor([1.0, 0.0]).expand(len(inputs), 2) + 0 * inputs.flatten(1).sum(1, keepdim=True)

    images, labels = torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64)
    for norm in ("linf", "l2"):
        found = craft("pgd", flat, images, labels, norm=norm, epsilons=[0.2], random_start=False)
        assert torch.equal(found.images, images)
        moved = craft("pgd", flat, images, labels, norm=norm, epsilons=[0.2])
        assert torch.isfinite(moved.images).all() and not moved.rows["success"].any()


def test_a_faint_gradient_still_points_somewhere():
    gradient = torch.tensor([[3e-25, 4e-25], [0.0, 0.0]])
    assert pgd.unit(gradient).tolist() == [pytest.approx([0.6, 0.8]), [0.0, 0.0]]


@pytest.mark.parametrize(
    "values",
    [{}, {"epsilons": []}, {"epsilons": [0.2, 0.1]}, {"epsilons": [0.1], "step_size": 1, "relative_step_size": 1}],
)
def test_parameters_are_checked(values):
    with pytest.raises(RedoubtError):
        registry.parameters("attacks", "pgd", values)
