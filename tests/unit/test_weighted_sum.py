"""The weighted sum's gradients against sums in double precision; threads; gradients of gradients."""

import pytest
import torch

from redoubt.networks import _weighted_sum as module
from redoubt.networks._weighted_sum import WeightedSum


def problem(rows=50, features=20, sums=70, count=6):
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(rows, features, generator=draw), torch.rand(sums, count, generator=draw)
    indices = torch.randint(rows - 10, (sums, count), generator=draw)  # some rows are never picked, some often
    return values[0], indices, values[1], torch.randn(sums, features, generator=draw)


def gradients(values, indices, weights, slope):
    values, weights = values.clone().requires_grad_(), weights.clone().requires_grad_()
    return torch.autograd.grad(WeightedSum.apply(values, indices, weights), [values, weights], slope)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("features", [1, 3, 20, 64])
def test_agrees_with_double_precision(fused, features, monkeypatch):
    if fused:
        pytest.importorskip("numba")
        monkeypatch.setattr(torch.Tensor, "index_add", None)
    else:
        monkeypatch.setattr(module, "available", lambda: False)
    values, indices, weights, slope = problem(features=features)
    dense = torch.zeros(len(indices), len(values), dtype=torch.float64)
    dense.scatter_add_(1, indices, weights.double())
    expected = dense.T @ slope.double(), (values.double()[indices] * slope.double()[:, None]).sum(2)
    for part, exact in zip(gradients(values, indices, weights, slope), expected, strict=True):
        assert torch.allclose(part.double(), exact, rtol=0, atol=2e-5)


def test_threads_change_nothing():
    pytest.importorskip("numba")
    values, indices, weights, slope = problem(501, 10, 997, 9)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(gradients(values, indices, weights, slope.T.contiguous().T))
    assert all(torch.equal(one, two) for other in results[1:] for one, two in zip(results[0], other, strict=True))


def test_only_what_is_needed_is_made():
    values, indices, weights, slope = problem()
    fixed = WeightedSum.apply(values, indices, weights.requires_grad_())
    (found,) = torch.autograd.grad(fixed, [weights], slope)
    assert torch.allclose(found, (values[indices] * slope[:, None]).sum(2), atol=1e-5)


def test_gradients_have_gradients():
    values, indices, weights, slope = problem(12, 3, 5, 2)

    def second(kind):
        parts = [part.to(kind).clone().requires_grad_() for part in (values, weights)]
        total = WeightedSum.apply(parts[0], indices, parts[1])
        first = torch.autograd.grad((total * slope.to(kind)).sum(), parts, create_graph=True)
        return torch.autograd.grad(sum(part.square().sum() for part in first), parts)

    for single, wide in zip(second(torch.float32), second(torch.float64), strict=True):
        assert wide.abs().max() > 0.1 and torch.allclose(single.double(), wide, atol=1e-4)
