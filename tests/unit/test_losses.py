"""Losses that attacks ascend: values by hand, and their relation to the cross-entropy."""

import math

import pytest
import torch

from redoubt.attacks._losses import LOSSES

LOGITS = torch.tensor([[2.0, 1.0, -1.0], [0.5, 3.0, 1.5]])
LABELS = torch.tensor([0, 2])


def test_values_by_hand():
    assert LOSSES["margin"](LOGITS, LABELS).tolist() == pytest.approx([-1.0, 1.5])
    expected = [math.log(math.e + math.exp(-1)) - 2, math.log(math.exp(0.5) + math.exp(3)) - 1.5]
    assert LOSSES["log-odds"](LOGITS, LABELS).tolist() == pytest.approx(expected)
    total = [sum(math.exp(value) for value in row) for row in LOGITS.tolist()]
    expected = [math.log(total[0]) - 2, math.log(total[1]) - 1.5]
    assert LOSSES["cross-entropy"](LOGITS, LABELS).tolist() == pytest.approx(expected)


def test_log_odds_point_where_the_cross_entropy_does():
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(50) % 10
    directions = []
    for name in ("cross-entropy", "log-odds"):
        points = logits.clone().requires_grad_()
        gradient = torch.autograd.grad(LOSSES[name](points, labels).sum(), points)[0]
        directions.append(torch.nn.functional.normalize(gradient))
    assert torch.allclose(*directions, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_of_a_confident_model_is_undefined(name):
    logits = torch.tensor([[1000.0, 0.0, -1000.0]]).requires_grad_()
    value = LOSSES[name](logits, torch.tensor([0]))
    gradient = torch.autograd.grad(value.sum(), logits)[0]
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()
    assert (gradient.abs().max() == 0) == (name == "cross-entropy")
