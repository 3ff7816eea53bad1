"""What every registered network promises on a small input of its own."""

import pytest
import torch

from redoubt import registry

SHAPES = {
    "mlp": (1, 28, 28),
    "lenet": (1, 28, 28),
    "lenet5": (1, 28, 28),
    "convnet": (3, 32, 32),
    "nin": (3, 32, 32),
    "resnet-cifar": (3, 32, 32),
    "mnist-network": (1, 28, 28),
    "net-a": (1, 28, 28),
    "net-b": (1, 28, 28),
    "vgg": (3, 32, 32),
    "wide-resnet": (3, 32, 32),
    "resnet-v2": (3, 32, 32),
}
SMALL = {"resnet-cifar": {"depth": 8, "width": 0.25}, "wide-resnet": {"depth": 10, "widening": 2, "width": 0.25}}
NAMES = [name for name in registry.names("networks") if name != "own"]  # tests/unit/test_own_models.py


def built(name, seed=0, classes=7):
    torch.manual_seed(seed)
    values = {"width": 0.1, "input_rms": 60, **SMALL.get(name, {})} if name in SHAPES else {}
    shape = SHAPES.get(name, (3, 64, 64))
    network = registry.method("networks", name).build(registry.parameters("networks", name, values), shape, classes)
    return network.eval(), 60 * torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_their_gradients(name):
    network, inputs = built(name)
    inputs.requires_grad_()
    logits = network(inputs)
    assert logits.shape == (3, 7) and logits.dtype == torch.float32 and torch.isfinite(logits).all()
    (gradient,) = torch.autograd.grad(logits.square().sum(), inputs, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), [next(network.parameters())])
    assert gradient.abs().max() > 0 and second.abs().max() > 0 and torch.isfinite(second).all()


@pytest.mark.parametrize("name", SHAPES)
def test_weights_follow_the_seed(name):
    (one, inputs), (same, _), (other, _) = built(name), built(name), built(name, seed=1)
    with torch.no_grad():
        assert torch.equal(one(inputs), same(inputs)) and not torch.equal(one(inputs), other(inputs))
        rows = torch.cat([one(part) for part in inputs.split(1)])
        assert (rows - one(inputs)).abs().max() <= 1e-4 * rows.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_modules_that_peers_may_follow_are_there(name):
    layers = getattr(registry.method("networks", name), "PEER_LAYERS", ())
    assert (name in ("lenet5", "resnet-cifar")) == bool(layers)
    assert set(layers) <= dict(built(name)[0].named_modules()).keys()
