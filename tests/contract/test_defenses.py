"""What every registered defense declares and promises, measured."""

import copy
import math

import pytest
import torch

from redoubt import registry

PARAMETERS = {"deepdefense": {"guard": 5e-6}}
NAMES = registry.names("defenses")


@pytest.fixture
def trained(mlp, digit_images, trainer):
    """Function (defense) to its model after some steps, and its trainer."""

    def make(name):
        network = copy.deepcopy(mlp.network)
        inputs, labels = mlp.preprocessing(digit_images[0][:100]), digit_images[1][:100]
        made = trainer(network, name, PARAMETERS.get(name, {}), inputs, labels, epochs=1, frozen=True)
        made.run()
        return network.eval(), made, inputs, labels

    return make


@pytest.mark.parametrize("name", NAMES)
def test_declared_flags_are_measured(name, trained):
    network, _, inputs, _ = trained(name)
    declared = registry.method("defenses", name).DECLARES
    with torch.no_grad():
        first, second = network(inputs), network(inputs)
        alone = torch.cat([network(part) for part in inputs.split([1, 33, 66])])
    assert torch.equal(first, second) != declared.random
    assert ((first - alone).abs().max() <= 1e-4 * first.abs().max()) != declared.batch_dependent


@pytest.mark.parametrize("name", NAMES)
def test_training_is_repeatable_and_does_something(name, trained, mlp, weights_bytes):
    (one, _, inputs, labels), (other, *_) = trained(name), trained(name)
    assert weights_bytes(one) == weights_bytes(other) != weights_bytes(mlp.network)
    assert (one(inputs).argmax(1) == labels).float().mean() > 0.5
    assert all(torch.isfinite(tensor).all() for tensor in one.state_dict().values())


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_a_finite_scalar_with_the_logits(name, trained):
    network, made, inputs, labels = trained(name)
    loss, logits = made.defense.loss(inputs[:8], labels[:8])
    assert loss.dim() == 0 and loss.requires_grad and math.isfinite(loss.item())
    assert torch.allclose(logits, network(inputs[:8])) and logits.shape == (8, 10)
    loss.backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_training_inputs_keep_their_shape_and_the_originals(name, trained):
    _, made, inputs, labels = trained(name)
    before = inputs.clone()
    found = made.defense.training_inputs(inputs, labels, lambda steps, title: steps)
    assert found.shape == inputs.shape and found.dtype == inputs.dtype and torch.equal(inputs, before)
    assert (found is inputs) == (name != "adversarial-training")


@pytest.mark.parametrize("name", NAMES)
def test_networks_it_fits_exist(name):
    declared = registry.method("defenses", name).DECLARES
    assert declared.networks is None or set(declared.networks) <= set(registry.names("networks"))
    assert declared.pretrained == (name != "clean")
