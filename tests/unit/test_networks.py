"""Networks layer by layer, as supplementary table 3 of DeepDefense prints them."""

import re
from pathlib import Path

import pytest
import torch

import redoubt
from redoubt import registry

TABLE = {
    "mlp": "FC-500 ReLU FC-150 ReLU FC-10",
    "lenet": "Conv-5-20 MaxPool-2 Conv-5-50 MaxPool-2 FC-500 ReLU FC-10",
    "convnet": "Conv-5-32 MaxPool-2 ReLU Conv-5-32 ReLU AvgPool-2 Conv-5-64 ReLU AvgPool-2 Conv-4-64 ReLU Conv-1-10",
    "nin": "Conv-5-192 ReLU Conv-1-160 ReLU Conv-1-96 ReLU MaxPool-2 Conv-5-192 ReLU Conv-1-192 ReLU Conv-1-192 ReLU "
    "AvgPool-2 Conv-3-192 ReLU Conv-1-192 ReLU Conv-1-10 AvgPool-8",
}
SHAPES = {"mlp": (1, 28, 28), "lenet": (1, 28, 28), "convnet": (3, 32, 32), "nin": (3, 32, 32)}
COUNTS = {
    "mlp": 784 * 500 + 500 + 500 * 150 + 150 + 150 * 10 + 10,
    "lenet": 25 * 20 + 20 + 25 * 20 * 50 + 50 + 800 * 500 + 500 + 500 * 10 + 10,
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


def test_layer_names_that_configs_use():
    assert [name for name, module in build("lenet").named_modules() if list(module.parameters(False))] == [
        "conv1",
        "conv2",
        "fc1",
        "fc2",
    ]


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
    assert found == ["networks/vision.py"]
