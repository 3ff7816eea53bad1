"""What every registered probe promises: it measures, and changes nothing."""

import copy
import dataclasses
import math

import pytest
import torch

from redoubt import registry
from redoubt.networks._noise import add_weight_noise
from redoubt.probes.interface import View

NETWORKS = {"noise-size": lambda network: add_weight_noise(network, "layer", 0.25)}
PARAMETERS = {"rho-2": {"iterations": 3}}
TRAINING = [name for name in registry.names("probes") if hasattr(registry.method("probes", name), "measure")]
TIMED = registry.parameters("probes", "epoch-time", {})
FINISHED = [name for name in registry.names("probes") if name not in TRAINING]


@pytest.fixture
def view(mlp, digit_images):
    inputs, labels = mlp.preprocessing(digit_images[0][:30]), digit_images[1][:30]
    parts = list(zip(inputs.split(20), labels.split(20), strict=True))
    facts = {"step": 7, "epoch": 0.5, "seconds": 1.5, "batch": parts[0], "preprocessing": mlp.preprocessing}
    return View(mlp.network, lambda: iter(parts), **facts)


@pytest.mark.parametrize("name", TRAINING)
def test_a_probe_of_trainings_measures_and_changes_nothing(name, view, snapshot, unchanged):
    method = registry.method("probes", name)
    parameters = registry.parameters("probes", name, PARAMETERS.get(name, {}))
    own = NETWORKS.get(name, lambda network: network)(copy.deepcopy(view.network))
    view = dataclasses.replace(view, network=own)
    before, images = snapshot(view.network), [part.clone() for part, _ in view.inputs()]
    measured = []
    for _ in range(2):
        torch.manual_seed(0)  # as a trace does
        measured.append(method.measure(view, parameters))
    one, other = measured
    assert one and all(isinstance(value, float) and math.isfinite(value) for value in one.values())
    assert one == other  # of one view; a probe that is not reproducible reads what differs from it
    assert unchanged(before, view.network)
    assert all(torch.equal(part, now) for part, (now, _) in zip(images, view.inputs(), strict=True))


@pytest.mark.parametrize("name", registry.names("probes"))
def test_a_probe_is_of_trainings_or_of_finished_models(name):
    method = registry.method("probes", name)
    assert hasattr(method, "measure") != hasattr(method, "run")
    assert all(field.description for field in method.Parameters.model_fields.values())
    assert getattr(method, "REPRODUCIBLE", True) == (name not in ("epoch-time", "timing"))


def test_values_by_hand(affine):
    network = affine(torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]), torch.zeros(3))
    inputs, labels = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 0])
    view = View(network, lambda: iter([(inputs, labels)]), 3, 1.0, 2.5)
    measured = registry.method("probes", "logit-margins").measure(view, None)
    assert measured == {"test_margin": pytest.approx((3 - 1) / 2), "test_logit_range": pytest.approx((3 + 4) / 2)}
    parameters = registry.parameters("probes", "rho-2", {"overshoot": 0.0, "guard": 1e-12})
    # 3 x0 = 4 x1 bounds the first image at 3 / 5, and the second, of length sqrt(2), at 1 / 5; x0 = 0 is farther.
    expected = (3 / 5 + 1 / 5 / 2**0.5) / 2
    assert registry.method("probes", "rho-2").measure(view, parameters) == {"test_rho_2": pytest.approx(expected, 1e-5)}
    assert registry.method("probes", "epoch-time").measure(view, TIMED) == {"seconds": 2.5}
    assert registry.method("probes", "epoch-time").measure(View(network, view.inputs, 0, 0.0, 0.0), TIMED) == {}
