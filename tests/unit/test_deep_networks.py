"""Networks of Perceptual Prior and Learn2Perturb: layers, sizes known from elsewhere, and blocks by hand."""

import pytest
import torch
from torch.nn import functional

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.networks import _projected as projected

DIGIT, COLOUR = (1, 28, 28), (3, 32, 32)


def build(name, shape=COLOUR, classes=10, **values):
    torch.manual_seed(0)
    parameters = registry.parameters("networks", name, values)
    return registry.method("networks", name).build(parameters, shape, classes)


def weights(network):
    return sum(weight.numel() for weight in network.parameters())


def kinds(network):
    """Return the layers with their sizes, such as Conv-5-32/2+1 for a stride of 2 and a padding of 1."""
    words = []
    for module in network.modules():
        name = type(module).__name__
        if name == "Conv2d":
            words.append(f"Conv-{module.kernel_size[0]}-{module.out_channels}/{module.stride[0]}+{module.padding[0]}")
        elif name == "Linear":
            words.append(f"FC-{module.out_features}")
        elif name == "MaxPool2d":
            assert module.stride == module.kernel_size and module.padding == 0
            words.append(f"Max-{module.kernel_size}")
        elif name == "Dropout":
            words.append(f"Drop-{module.p}")
        elif name == "ReLU":
            words[-1] += " R"
    return " ".join(words)


@pytest.mark.parametrize(
    ("name", "layers", "count"),
    [
        (
            "mnist-network",
            "Conv-5-32/1+2 R Conv-5-32/1+2 R Max-2 Conv-5-64/1+2 R Conv-5-64/1+2 R Max-2 FC-512 R FC-10",
            832 + 25_632 + 51_264 + 102_464 + (49 * 64 + 1) * 512 + 5_130,
        ),
        # The counts that Keras prints for models A and B; B is also the basic network of cleverhans.
        ("net-a", "Conv-5-64/1+0 R Conv-5-64/1+0 R Drop-0.25 FC-128 R Drop-0.5 FC-10", 3_382_346),
        ("net-b", "Drop-0.2 Conv-8-64/2+3 R Conv-6-128/2+0 R Conv-5-128/1+0 R Drop-0.5 FC-10", 710_218),
    ],
)
def test_layers_are_those_of_table_6(name, layers, count):
    network = build(name, DIGIT)
    assert kinds(network) == layers and weights(network) == count
    assert network.eval()(torch.randn(2, *DIGIT)).shape == (2, 10)
    if name == "mnist-network":
        assert network.pool2(torch.zeros(1, 32, 28, 28)).shape[2:] == (14, 14) and network.fc1.in_features == 7 * 7 * 64


@pytest.mark.parametrize(
    ("name", "values", "count"),
    [
        # Zagoruyko and Komodakis, table 4: 8.9, 11.0 and 36.5 million weights; exact counts of public implementations.
        ("wide-resnet", {"depth": 40, "widening": 4}, 8_949_210),
        ("wide-resnet", {"depth": 16, "widening": 8}, 10_961_370),
        ("wide-resnet", {}, 36_479_194),
        ("vgg", {}, 9_231_114),
        ("vgg", {"batch_norm": False}, 9_231_114 - 2 * 2752),
        ("vgg", {"depth": 13}, 9_416_010),
        ("vgg", {"depth": 16}, 14_728_266),
        ("vgg", {"depth": 19}, 20_040_522),
        ("resnet-v2", {}, 11_173_962),
        # ResNet-V1 of PNI and Learn2Perturb is `resnet-cifar`: its shortcuts have no weights.
        ("resnet-cifar", {"depth": 20}, 269_722),
        ("resnet-cifar", {"depth": 32}, 464_154),
        ("resnet-cifar", {"depth": 44}, 658_586),
        ("resnet-cifar", {"depth": 56}, 853_018),
        ("resnet-cifar", {"depth": 20, "width": 1.5}, 605_026),
        ("resnet-cifar", {"depth": 20, "width": 2}, 1_073_962),
        ("resnet-cifar", {"depth": 20, "width": 4}, 4_286_026),
    ],
)
def test_sizes_known_from_elsewhere(name, values, count):
    assert weights(build(name, **values)) == count


@pytest.mark.parametrize(
    ("name", "stages", "sides"), [("wide-resnet", 3, (32, 16, 8)), ("resnet-v2", 4, (32, 16, 8, 4))]
)
def test_stages_halve_the_image(name, stages, sides):
    network = build(name, width=0.1).eval()
    maps = network.stem(torch.randn(2, *COLOUR))
    for number, side in zip(range(1, stages + 1), sides, strict=True):
        maps = network.get_submodule(f"stage{number}")(maps)
        assert maps.shape[2:] == (side, side)
    if name == "wide-resnet":
        maps = network.relu(network.bn(maps))
    assert torch.allclose(network.flatten(network.pool(maps)), maps.mean((2, 3)), atol=1e-6)


def test_depth_and_widening_of_wide_networks():
    network = build("wide-resnet", depth=16, widening=2.5, width=0.5)
    assert [len(network.get_submodule(f"stage{number}")) for number in (1, 2, 3)] == [2, 2, 2]
    widths = [network.get_submodule(f"stage{number}")[-1].conv2.out_channels for number in (1, 2, 3)]
    assert widths == [20, 40, 80] and network.stem.out_channels == 8
    for depth in (9, 27, 18, 4):
        with pytest.raises(RedoubtError, match=r"^depth: \d+: "):
            build("wide-resnet", depth=depth)


def test_vgg_has_its_convolutions_and_norms():
    for depth in (11, 13, 16, 19):
        words = kinds(build("vgg", depth=depth)).split()
        assert sum(word.startswith("Conv-3") for word in words) == depth - 3 and words.count("Max-2") == 5
        assert words.count("R") == depth - 3 and words[-1] == "FC-10"
    assert not [m for m in build("vgg", batch_norm=False).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert [stage[0].out_channels for stage in list(build("vgg", width=0.25))[:5]] == [16, 32, 64, 128, 128]
    with pytest.raises(RedoubtError, match="five max-pools leave nothing of 28 x 28 images"):
        build("vgg", DIGIT)
    assert build("vgg", (3, 70, 32), width=0.1).eval()(torch.randn(1, 3, 70, 32)).shape == (1, 10)


@pytest.mark.parametrize("name", ["net-a", "net-b"])
def test_dropout_sleeps_in_eval_mode(name):
    network, inputs = build(name, DIGIT, width=0.2), torch.rand(2, *DIGIT)
    assert torch.equal(network.eval()(inputs), network(inputs))
    assert not torch.equal(network.train()(inputs), network(inputs))


# -- blocks by hand ---------------------------------------------------------------------------------------------------


def filled(block):
    """Return a block in eval mode and float64 whose norms do something."""
    block = block.double().eval()
    for norm in (module for module in block.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    return block


def normed(maps, norm):
    scaled = (maps - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + norm.eps).sqrt()
    return scaled * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)


@pytest.mark.parametrize(("units", "stride"), [(3, 2), (3, 1), (2, 2), (2, 1)])
def test_a_projected_block_by_hand(units, stride):
    torch.manual_seed(0)
    block, inputs = filled(projected.Projected(2, units, stride)), torch.randn(2, 2, 5, 5).double()
    first = functional.conv2d(inputs, block.conv1.weight, stride=stride, padding=1)
    second = functional.conv2d(normed(first, block.bn1).clamp_min(0), block.conv2.weight, padding=1)
    kept = inputs
    if (units, stride) != (2, 1):
        mixed = torch.einsum("uc,nchw->nuhw", block.projection.weight[:, :, 0, 0], inputs[:, :, ::stride, ::stride])
        kept = normed(mixed, block.projection_bn)
    expected = normed(second, block.bn2) + kept
    assert torch.allclose(block(inputs), expected.clamp_min(0), atol=1e-12) and (expected < 0).any()
    assert (weights(block) == 2 * 9 * 2 * 2 + 8) == ((units, stride) == (2, 1))


@pytest.mark.parametrize(("units", "stride"), [(3, 2), (3, 1), (2, 2), (2, 1)])
def test_a_preactivated_block_by_hand(units, stride):
    torch.manual_seed(0)
    block, inputs = filled(projected.Preactivated(2, units, stride)), torch.randn(2, 2, 5, 5).double()
    active = normed(inputs, block.bn1).clamp_min(0)
    first = functional.conv2d(active, block.conv1.weight, stride=stride, padding=1)
    expected = functional.conv2d(normed(first, block.bn2).clamp_min(0), block.conv2.weight, padding=1)
    if (units, stride) == (2, 1):
        expected = expected + inputs
    else:
        seen = active[:, :, ::stride, ::stride]
        expected = expected + torch.einsum("uc,nchw->nuhw", block.projection.weight[:, :, 0, 0], seen)
    assert torch.allclose(block(inputs), expected, atol=1e-12) and (expected < 0).any()


# -- initial weights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "values"),
    [
        ("mnist-network", DIGIT, {}),
        ("net-a", DIGIT, {}),
        ("net-b", DIGIT, {}),
        ("wide-resnet", COLOUR, {"depth": 16, "widening": 4}),
        ("resnet-v2", COLOUR, {"width": 0.5}),
        ("vgg", COLOUR, {"width": 0.5}),
    ],
)
def test_initial_weights_follow_hes_rule(name, shape, values):
    network = build(name, shape, input_rms=4.0, **values)
    layers = [m for m in network.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    for number, layer in enumerate(layers):
        he = (2 / layer.weight[0].numel()) ** 0.5 / (4.0 if number == 0 else 1.0)
        assert float(layer.weight.detach().std()) == pytest.approx(he, rel=0.1)
        assert layer.bias is None or layer.bias.abs().max() == 0
    assert float(
        build(name, shape, initial_std=0.01, **values)
        .get_parameter("fc2.weight" if name in ("mnist-network", "net-a") else "fc.weight")
        .detach()
        .std()
    ) == pytest.approx(0.01, rel=0.1)
    logits = build(name, shape, **values).train()(torch.randn(16, *shape))
    assert torch.isfinite(logits).all() and 0.01 < logits.detach().std() < 100
