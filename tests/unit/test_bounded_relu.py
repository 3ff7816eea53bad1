"""Bounded ReLUs: where the bound bites, and the noise of the augmentation."""

import copy

import pytest
import torch

from redoubt import registry
from redoubt.defenses import bounded_relu
from redoubt.errors import RedoubtError
from redoubt.preprocessing._layers import MeanImage, Standardised

SHAPES = {"mlp": (1, 28, 28), "lenet5": (1, 28, 28), "resnet-cifar": (3, 32, 32), "convnet": (3, 32, 32)}
SMALL = {"resnet-cifar": {"depth": 8, "width": 0.25}}


def options(**values):
    return registry.parameters("defenses", "bounded-relu", values)


def built(name):
    torch.manual_seed(0)
    parameters = registry.parameters("networks", name, {"width": 0.2, **SMALL.get(name, {})})
    return registry.method("networks", name).build(parameters, SHAPES[name], 10).eval()


def relus(network):
    return [module for module in network.modules() if isinstance(module, torch.nn.ReLU)]


def test_the_activation_by_hand():
    network = bounded_relu.change(options(bound=1.5), torch.nn.Sequential(torch.nn.ReLU()), (1, 1, 1), 10)
    inputs = torch.tensor([-2.0, 0.0, 0.5, 1.5, 1.6, 90.0], requires_grad=True)
    found = network(inputs)
    assert found.tolist() == [0.0, 0.0, 0.5, 1.5, 1.5, 1.5]
    found.sum().backward()
    assert inputs.grad[[0, 2, 4, 5]].tolist() == [0.0, 1.0, 0.0, 0.0]


def test_a_relu_in_two_places_is_bounded_in_both():
    relu = torch.nn.ReLU()
    network = bounded_relu.change(
        options(bound=1.5), torch.nn.Sequential(relu, torch.nn.Flatten(), relu), (1, 1, 1), 10
    )
    assert not relus(network)


@pytest.mark.parametrize("name", SHAPES)
def test_every_relu_is_bounded_and_the_weights_stay(name):
    network, inputs = built(name), 3 * torch.randn(4, *SHAPES[name])
    names = [key for key, module in network.named_modules() if isinstance(module, torch.nn.ReLU)]
    tensors = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    plain = network(inputs)
    loose = bounded_relu.change(options(bound=1e9), copy.deepcopy(network), SHAPES[name], 10)
    assert torch.equal(loose(inputs), plain)
    tight = bounded_relu.change(options(bound=0.1), network, SHAPES[name], 10)
    assert not relus(tight) and len(names) >= 2
    assert [key for key, module in tight.named_modules() if isinstance(module, torch.nn.Hardtanh)] == names
    assert tensors.keys() == tight.state_dict().keys()
    assert all(torch.equal(tensor, tight.state_dict()[key]) for key, tensor in tensors.items())
    assert not torch.allclose(tight(inputs), plain)


def test_networks_of_torchvision_are_bounded_too():
    network = registry.method("networks", "resnet-18").build(
        registry.parameters("networks", "resnet-18", {}), (3, 64, 64), 10
    )
    count = len(relus(network))
    assert count > 5
    assert not relus(bounded_relu.change(options(), network, (3, 64, 64), 10))


def test_a_network_without_relus_is_refused():
    with pytest.raises(RedoubtError, match="no ReLU to bound"):
        bounded_relu.change(options(), torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()), (1, 1, 2), 2)


class Recorder(torch.nn.Module):
    """A linear network that keeps what it is given."""

    def __init__(self, features=48):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(features, 10), []

    def forward(self, inputs):
        self.seen.append(inputs.detach().clone())
        return self.layer(inputs.flatten(1))


@pytest.fixture
def batch():
    """Images in [0, 1] and labels."""
    draw = torch.Generator().manual_seed(0)
    return torch.rand(600, 3, 4, 4, generator=draw), torch.arange(600) % 10


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_clean_images_and_their_copies_share_one_pass(copies, batch, ask):
    inputs, labels = batch
    before = inputs.clone()
    network = Recorder()
    defense = bounded_relu.Defense(options(copies=copies, std=0.2), network)
    torch.manual_seed(0)
    loss, logits = ask(defense, inputs, labels)
    (seen,) = network.seen
    assert torch.equal(inputs, before) and torch.equal(seen[:600], inputs) and len(seen) == 600 * (1 + copies)
    assert torch.equal(logits, network(inputs))
    parts = [torch.nn.functional.cross_entropy(network(part), labels) for part in seen.split(600)]
    assert loss.item() == pytest.approx(torch.stack(parts).mean().item(), rel=1e-5)
    for noise in (seen[600:] - inputs.repeat(copies, 1, 1, 1)).split(600) if copies else ():
        assert float(noise.std()) == pytest.approx(0.2, rel=0.03) and abs(float(noise.mean())) < 0.005
    if copies:
        assert seen.min() < 0 and seen.max() > 1  # not clipped, as in the authors' toolbox
        assert not torch.equal(seen[600:1200], seen[-600:]) or copies == 1


def test_noise_is_drawn_again_at_every_step(batch, ask):
    network = Recorder()
    defense = bounded_relu.Defense(options(), network)
    for _ in range(2):
        ask(defense, *batch)
    assert not torch.equal(network.seen[0][600:], network.seen[1][600:])


def test_the_noise_is_measured_on_images(batch, ask, setting):
    images, labels = batch
    layer = Standardised(3)
    layer.std.copy_(torch.tensor([0.1, 0.5, 2.0]).view(3, 1, 1))
    layer.mean.fill_(0.3)
    network = Recorder()
    defense = bounded_relu.Defense(options(std=0.05), network)
    defense.begin(setting(layer, (3, 4, 4)))
    inputs = layer(images)
    ask(defense, inputs, labels)
    noise = (network.seen[0][600:] - inputs).transpose(0, 1).flatten(1)
    assert noise.std(1).tolist() == pytest.approx([0.5, 0.1, 0.025], rel=0.03)
    defense.begin(setting(MeanImage((3, 4, 4)), (3, 4, 4)))
    ask(defense, 255 * images, labels)
    assert float((network.seen[1][600:] - 255 * images).std()) == pytest.approx(255 * 0.05, rel=0.03)


def test_without_bound_and_noise_it_is_clean_training_bit_for_bit(mlp, digit_images, trainer, weights_bytes):
    inputs, labels = mlp.preprocessing(digit_images[0][:60]), digit_images[1][:60]
    found = []
    for name, parameters in (("clean", {}), ("bounded-relu", {"bound": 1e9, "copies": 0})):
        network = copy.deepcopy(mlp.network)
        if parameters:
            network = bounded_relu.change(options(**parameters), network, (1, 28, 28), 10)
        trainer(network, name, parameters, inputs, labels).run()
        found.append(weights_bytes(network))
    assert found[0] == found[1] != weights_bytes(mlp.network)


def test_augmentation_makes_a_network_stand_noise(digit_arrays, trainer):
    images, labels = (torch.from_numpy(part) for part in digit_arrays["train"])
    images, labels = images[:300].float() / 255, labels[:300]
    test, truth = (torch.from_numpy(part) for part in digit_arrays["test"])
    noisy = test.float() / 255 + 0.8 * torch.randn(test.shape, generator=torch.Generator().manual_seed(5))
    found = []
    for std in (0.0, 0.8):
        network = bounded_relu.change(options(bound=2.0), built("mlp"), (1, 28, 28), 10)
        values = {"std": std, "bound": 2.0}
        trainer(network, "bounded-relu", values, images, labels, epochs=20, optimizer="adam", learning_rate=0.002).run()
        found.append((network(noisy).argmax(1) == truth).float().mean())
    assert found[1] > found[0] + 0.04
