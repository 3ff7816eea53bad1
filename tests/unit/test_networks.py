"""Networks layer by layer, as supplementary table 3 of DeepDefense prints them, and those of PeerNets."""

import re
from pathlib import Path

import pytest
import torch

import redoubt
from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.networks import _residual as residual

TABLE = {
    "mlp": "FC-500 ReLU FC-150 ReLU FC-10",
    "lenet": "Conv-5-20 MaxPool-2 Conv-5-50 MaxPool-2 FC-500 ReLU FC-10",
    "lenet5": "Conv-5-20 ReLU MaxPool-2 Conv-5-50 ReLU MaxPool-2 FC-500 ReLU FC-10",
    "convnet": "Conv-5-32 MaxPool-2 ReLU Conv-5-32 ReLU AvgPool-2 Conv-5-64 ReLU AvgPool-2 Conv-4-64 ReLU Conv-1-10",
    "nin": "Conv-5-192 ReLU Conv-1-160 ReLU Conv-1-96 ReLU MaxPool-2 Conv-5-192 ReLU Conv-1-192 ReLU Conv-1-192 ReLU "
    "AvgPool-2 Conv-3-192 ReLU Conv-1-192 ReLU Conv-1-10 AvgPool-8",
}
DIGIT, COLOUR = (1, 28, 28), (3, 32, 32)
SHAPES = {"mlp": DIGIT, "lenet": DIGIT, "lenet5": DIGIT, "convnet": COLOUR, "nin": COLOUR}
COUNTS = {
    "mlp": 784 * 500 + 500 + 500 * 150 + 150 + 150 * 10 + 10,
    "lenet": 25 * 20 + 20 + 25 * 20 * 50 + 50 + 800 * 500 + 500 + 500 * 10 + 10,
    "lenet5": 431_080,
    "convnet": 75 * 32 + 32 + 800 * 32 + 32 + 800 * 64 + 64 + 1024 * 64 + 64 + 640 + 10,
    "nin": 75 * 192 + 192 + 192 * 160 + 160 + 160 * 96 + 96 + 2400 * 192 + 192 + 2 * (192 * 192 + 192)
    + 1728 * 192 + 192 + 192 * 192 + 192 + 192 * 10 + 10,
}  # fmt: skip


def build(name, shape=None, **values):
    torch.manual_seed(0)
    parameters = registry.parameters("networks", name, values)
    return registry.method("networks", name).build(parameters, shape or SHAPES[name], 10)


def spelt(network):
    """Return the layers of a network in the words of the table."""
    words = []
    for module in network:
        kind = type(module).__name__
        if kind == "Conv2d":
            assert module.kernel_size[0] == module.kernel_size[1] and module.stride == (1, 1)
            words.append(f"Conv-{module.kernel_size[0]}-{module.out_channels}")
        elif kind == "Linear":
            words.append(f"FC-{module.out_features}")
        elif kind in ("MaxPool2d", "AvgPool2d"):
            assert module.stride == module.kernel_size and module.padding == 0
            words.append(f"{kind[:-2]}-{module.kernel_size}")
        elif kind == "ReLU":
            words.append(kind)
        else:
            assert kind in ("Flatten", "Dropout")
    return " ".join(words)


@pytest.mark.parametrize("name", TABLE)
def test_layers_are_those_of_the_table(name):
    network = build(name)
    assert spelt(network) == TABLE[name]
    assert sum(weight.numel() for weight in network.parameters()) == COUNTS[name]
    assert network.eval()(torch.randn(2, *SHAPES[name])).shape == (2, 10)


def test_counts_known_from_elsewhere():
    assert COUNTS["lenet"] == 431_080  # LeNet of the Caffe and MatConvNet examples
    assert COUNTS["nin"] == 966_986  # NIN for CIFAR-10


@pytest.mark.parametrize("name", ["lenet", "lenet5"])
def test_layer_names_that_configs_use(name):
    with_weights = [key for key, module in build(name).named_modules() if list(module.parameters(False))]
    assert with_weights == ["conv1", "conv2", "fc1", "fc2"]


@pytest.mark.parametrize("name", TABLE)
def test_width_scales_all_but_the_classes(name):
    published = [m for m in build(name).modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    narrow = [m for m in build(name, width=0.25).modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(published) == len(narrow)
    for wide, thin in zip(published[:-1], narrow[:-1], strict=True):
        assert len(thin.weight) == round(0.25 * len(wide.weight))
    assert len(narrow[-1].weight) == 10
    assert build(name, width=1e-6).eval()(torch.randn(1, *SHAPES[name])).shape == (1, 10)


def test_dropout_of_nin_sleeps_in_eval_mode():
    network, inputs = build("nin", width=0.1), torch.randn(2, 3, 32, 32)
    assert [m.p for m in network if isinstance(m, torch.nn.Dropout)] == [0.5, 0.5]
    assert torch.equal(network.eval()(inputs), network(inputs))
    assert not torch.equal(network.train()(inputs), network(inputs))


@pytest.mark.parametrize("name", TABLE)
def test_initial_weights(name):
    network = build(name)
    layers = [m for m in network.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    for layer in layers:
        if layer.weight.numel() > 5000:
            assert float(layer.weight.detach().std()) == pytest.approx((2 / layer.weight[0].numel()) ** 0.5, rel=0.05)
        assert layer.bias.abs().max() == 0
    scaled = build(name, input_rms=50.0)
    weights = list(network.parameters())
    for number, (one, other) in enumerate(zip(weights, scaled.parameters(), strict=True)):
        assert torch.allclose(one, other * (50.0 if number == 0 else 1.0), rtol=1e-4)
    fixed = next(build(name, initial_std=0.01, input_rms=50.0).parameters())
    assert float(fixed.detach().std()) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(("name", "size", "weights"), [("alexnet", 64, 57_044_810), ("resnet-18", 64, 11_181_642)])
def test_networks_of_torchvision(name, size, weights):
    network = build(name, (3, size, size)).eval()
    assert sum(weight.numel() for weight in network.parameters()) == weights
    with torch.no_grad():
        logits = network(60 * torch.randn(2, 3, size, size))
    assert logits.shape == (2, 10) and torch.isfinite(logits).all()


def test_published_inputs_are_rescaled_to_unit_variance():
    rescale = build("resnet-18", (3, 64, 64))[0]
    inputs = 255 * torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert torch.allclose(rescale(inputs), torch.ones(1, 3, 2, 2))


def test_only_one_module_imports_torchvision():
    source = Path(redoubt.__file__).parent
    found = [
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if re.search(r"^\s*(import|from)\s+torchvision|import_module\(.torchvision", path.read_text(), re.MULTILINE)
    ]
    assert found == ["networks/_vision.py"]


# -- residual networks of small images --------------------------------------------------------------------------------


def residual_weights(count, widths, channels=3, classes=10):
    """Count weights by hand: convolutions without bias, two weights a channel in a norm, a linear layer."""
    stem, *stages = widths
    total, before = 9 * channels * stem + 2 * stem, stem
    for units in stages:
        total += 9 * before * units + 2 * units + 9 * units * units + 2 * units
        total += (count - 1) * (2 * 9 * units * units + 4 * units)
        before = units
    return total + before * classes + classes


@pytest.mark.parametrize(
    ("values", "count", "widths"),
    [
        ({}, 5, (16, 16, 32, 64)),
        ({"late_width": 2}, 5, (16, 16, 64, 128)),
        ({"depth": 110}, 18, (16, 16, 32, 64)),
        ({"depth": 110, "late_width": 2}, 18, (16, 16, 64, 128)),
        ({"depth": 8, "width": 0.25}, 1, (4, 4, 8, 16)),
        ({"depth": 14, "width": 0.5, "late_width": 0.25}, 2, (8, 8, 4, 8)),
    ],
)
def test_residual_networks_have_the_published_sizes(values, count, widths):
    network = build("resnet-cifar", COLOUR, **values)
    assert sum(weight.numel() for weight in network.parameters()) == residual_weights(count, widths)
    stages = [network.stage1, network.stage2, network.stage3]
    assert [len(stage) for stage in stages] == [count] * 3
    assert [stage[-1].conv2.out_channels for stage in stages] == [*widths[1:]]
    assert len([m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]) == 6 * count + 1
    assert list(dict(network.named_children())) == ["stem", "stage1", "stage2", "stage3", "pool", "flatten", "fc"]


def test_sizes_known_from_elsewhere():
    # He et al., table 6: 0.46 M and 1.7 M weights; the exact counts of a well-known reimplementation with option A.
    assert residual_weights(5, (16, 16, 32, 64)) == 464_154
    assert residual_weights(18, (16, 16, 32, 64)) == 1_727_962


@pytest.mark.parametrize(("shape", "sides"), [(COLOUR, (32, 16, 8)), (DIGIT, (28, 14, 7)), ((3, 9, 11), (9, 5, 3))])
def test_stages_halve_the_image(shape, sides):
    network, maps = build("resnet-cifar", shape, depth=8, width=0.25).eval(), torch.randn(2, *shape)
    maps = network.stem(maps)
    for stage, side in zip((network.stage1, network.stage2, network.stage3), sides, strict=True):
        maps = stage(maps)
        assert maps.shape[2] == side
    assert torch.allclose(network.flatten(network.pool(maps)), maps.mean((2, 3)), atol=1e-6)


def test_depths_are_six_n_plus_two():
    for depth in (9, 31, 2, 100):
        with pytest.raises(RedoubtError, match=r"^depth: \d+: "):
            build("resnet-cifar", COLOUR, depth=depth)


def test_a_block_by_hand():
    torch.manual_seed(0)
    block = residual.Block(2, 3, stride=2).double().eval()
    for norm in (block.bn1, block.bn2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)

    def normed(maps, norm):
        scaled = (maps - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + norm.eps).sqrt()
        return scaled * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)

    inputs = torch.randn(2, 2, 5, 5).double()
    first = torch.nn.functional.conv2d(inputs, block.conv1.weight, stride=2, padding=1)
    second = torch.nn.functional.conv2d(normed(first, block.bn1).clamp_min(0), block.conv2.weight, padding=1)
    expected = normed(second, block.bn2)
    expected[:, :2] += inputs[:, :, [0, 2, 4]][..., [0, 2, 4]]  # every other pixel; the third channel has no shortcut
    assert torch.allclose(block(inputs), expected.clamp_min(0), atol=1e-12)
    assert (block(inputs) == 0).any() and (expected < 0).any()


def test_a_block_with_silent_convolutions_passes_its_input_on():
    block = residual.Block(3, 3).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    inputs = torch.randn(2, 3, 4, 4)
    assert torch.equal(block(inputs), inputs.clamp_min(0))


def test_initial_weights_without_biases():
    network = build("resnet-cifar", COLOUR, input_rms=4.0)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(m.bias is None for m in convolutions) and network.fc.bias.abs().max() == 0
    for number, module in enumerate(convolutions):
        he = (2 / (9 * module.in_channels)) ** 0.5 / (4.0 if number == 0 else 1.0)
        assert float(module.weight.detach().std()) == pytest.approx(he, rel=0.15)
    logits = build("resnet-cifar", COLOUR).train()(torch.randn(8, *COLOUR))
    assert torch.isfinite(logits).all() and 0.01 < logits.std() < 100
