"""Square: sides and shapes by hand, budgets that move, closed forms, random models."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redoubt.attacks import square
from redoubt.attacks._expectation import Expectation
from redoubt.errors import RedoubtError
from redoubt.evaluation.craft import craft


def wrong(result):
    return (result.rows["adversarial_label"] != result.rows["label"]).to_numpy()


def test_sides_shrink_as_the_share_is_halved():
    options = square.Parameters(epsilons=[0.1], iterations=10_000, share=0.8)
    sides = {iteration: square.side(iteration, options, 28, 28) for iteration in (0, 9, 10, 50, 200, 8000, 9999)}
    pixels = {0: 0.8, 9: 0.8, 10: 0.4, 50: 0.2, 200: 0.1, 8000: 0.8 / 256, 9999: 0.8 / 256}
    assert sides == {iteration: round((share * 784) ** 0.5) for iteration, share in pixels.items()}
    quick = square.Parameters(epsilons=[0.1], iterations=100, share=0.8)
    assert square.side(80, quick, 28, 28) == square.side(8000, options, 28, 28)
    for norm, least in (("linf", 1), ("l2", 3)):
        tiny = square.Parameters(epsilons=[0.1], norm=norm, share=1e-9)
        assert square.side(99, tiny, 28, 28) == least and square.side(99, tiny, 2, 28) == min(least, 2)


def test_the_shape_of_an_l2_square_by_hand():
    third, half = 1 / 9, 1 / 4
    assert torch.allclose(square.bump(4, 4)[:, 2], torch.tensor([third, third + half, third + half + 1, third + half]))
    assert square.bump(4, 4)[2].tolist() == square.bump(4, 4)[:, 2].tolist()
    for h in (1, 2, 3, 6, 9):
        shape = square.shape(h)
        assert shape.shape == (h, h) and shape.norm().item() == pytest.approx(1.0)
    assert (square.shape(6)[:, :3] >= 0).all() and (square.shape(6)[:, 3:] <= 0).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), h=st.integers(1, 6), channels=st.integers(1, 3))
def test_a_shift_moves_budget_and_never_exceeds_it(seed, h, channels):
    draw = torch.Generator().manual_seed(seed)
    clean, radii = torch.rand(4, channels, 6, 7, generator=draw), torch.rand(4, generator=draw) + 0.1
    corners = (torch.rand(4, 4, generator=draw) * torch.tensor([7 - h, 8 - h, 7 - h, 8 - h])).long()
    signs, turned = torch.rand(4, channels, generator=draw).sub(0.5).sign(), torch.rand(4, generator=draw) < 0.5
    old = clean + radii.view(4, 1, 1, 1) * torch.nn.functional.normalize(
        torch.randn(clean.shape, generator=draw).flatten(1)
    ).view_as(clean) * torch.rand(4, 1, 1, 1, generator=draw)
    new = square.shifted(old, clean, radii, corners, signs, turned, h)
    sizes = (new - clean).flatten(1).norm(dim=1)
    assert (sizes <= radii * (1 + 1e-5)).all() and torch.allclose(sizes, radii, rtol=1e-3)  # what was unused is used
    for row in range(4):
        (top, left), (high, side) = corners[row].view(2, 2).tolist()
        lost = torch.ones(6, 7, dtype=torch.bool)
        lost[high : high + h, side : side + h] = False
        lost[top : top + h, left : left + h] = True
        assert (new - clean)[row][:, ~lost].abs().max() == 0 if (~lost).any() else True
        lost[top : top + h, left : left + h] = False
        assert torch.allclose(new[row][:, lost], old[row][:, lost])


def test_a_painted_square_has_its_place_and_both_ends():
    clean = torch.full((2, 2, 4, 5), 0.5)
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    new = square.painted(clean, clean, torch.tensor([0.1, 0.2]), torch.tensor([[0, 0], [2, 3]]), signs, 2)
    assert new[0, :, 0, 1].tolist() == pytest.approx([0.6, 0.4]) and new[1, :, 3, 4].tolist() == pytest.approx(
        [0.3, 0.7]
    )
    assert (new != 0.5).sum((1, 2, 3)).tolist() == [8, 8]


@pytest.mark.parametrize(("norm", "dual", "slack"), [("linf", 1, 1.02), ("l2", 2, 2.0)])
def test_an_affine_network_falls_a_little_beyond_its_distance(norm, dual, slack, between):
    network, images, labels, slopes, gap = between
    sizes = [share * float(gap / slopes.norm(p=dual)) for share in (0.99, slack)]
    found = craft("square", network, images, labels, norm=norm, epsilons=sizes, iterations=600, share=0.5)
    assert wrong(found).reshape(2, -1).mean(1).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_iterations_restarts_or_room_are_never_weaker(norm, mlp, digit_images):
    images, labels = (part[:30] for part in digit_images)
    sizes = [0.05, 0.1] if norm == "linf" else [0.8, 1.6]
    few, more = (craft("square", mlp, images, labels, norm=norm, epsilons=sizes, iterations=n) for n in (15, 150))
    small, large = wrong(more).reshape(2, 30)
    assert (large | ~small).all() and large.sum() > small.sum()
    assert wrong(more).sum() > wrong(few).sum() and wrong(more).mean() < 0.99
    assert (more.rows["queries"] <= 2 + 150).all() and (more.rows["backwards"] == 0).all()
    wide = [0.12] if norm == "linf" else [2.6]
    one, two = (
        craft("square", mlp, images, labels, norm=norm, epsilons=wide, iterations=4, restarts=n) for n in (1, 8)
    )
    assert (wrong(two) | ~wrong(one)).all() and wrong(two).sum() > wrong(one).sum()
    failed = ~wrong(two)
    assert (two.rows["loss"][failed] >= one.rows["loss"][failed] - 1e-5).mean() > 0.9  # the best of all starts
    short = craft("square", mlp, images, labels, norm=norm, epsilons=sizes[:1], iterations=150, queries=40)
    assert short.rows["queries"].max() == 40


def test_gradients_are_not_asked_for(digit_images, mlp):
    def network(inputs):
        assert not torch.is_grad_enabled() and not inputs.requires_grad
        return mlp(inputs)

    assert wrong(craft("square", network, *(part[:5] for part in digit_images), epsilons=[0.3], iterations=50)).any()


def test_on_the_mean_of_draws_a_lucky_draw_does_not_count(affine):
    """One draw of noise often looks like success; the mean of many is what the model will say again."""

    def network(inputs):
        flat = inputs.flatten(1)
        noise = torch.randn(len(flat))
        return torch.stack([0.6 + 0 * noise, flat.mean(1) - 0.5 + noise], 1)

    images, labels = torch.full((30, 1, 4, 4), 0.5), torch.zeros(30, dtype=torch.int64)
    truly = {}
    for draws in (1, 200):
        torch.manual_seed(0)
        found = craft("square", Expectation(network, draws), images, labels, epsilons=[0.2], iterations=40)
        truly[draws] = found.rows["iterations"].mean()
    assert truly[1] < 10 < 39 < truly[200]  # no image can pass 0.6 in the mean


@pytest.mark.parametrize("values", [{}, {"epsilons": [0.2, 0.1]}, {"epsilons": [0.1], "share": 0.0}])
def test_parameters_are_checked(values, mlp, digit_images):
    with pytest.raises(RedoubtError):
        craft("square", mlp, *(part[:2] for part in digit_images), **values)
