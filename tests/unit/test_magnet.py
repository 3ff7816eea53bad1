"""MagNet: the autoencoder by hand, detectors against definitions, thresholds, and its place in training and attacks."""

import copy

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from redoubt import registry
from redoubt.attacks.interface import Crafted
from redoubt.defenses import magnet
from redoubt.evaluation.run import rows_of
from redoubt.evaluation.victim import Victim
from redoubt.models.classifier import Classifier
from redoubt.networks._reformed import Autoencoder, Reformed, divergence
from redoubt.preprocessing._layers import MeanImage, Standardised
from redoubt.study.entries.attack import AttackEntry

SHAPE = (1, 28, 28)


def options(**values):
    return registry.parameters("defenses", "magnet", values)


@pytest.fixture
def reformed(mlp, setting):
    """Function (parameters) to a MagNet in front of the MLP, on its inputs around zero."""

    def make(**values):
        torch.manual_seed(0)
        network = magnet.change(options(**values), mlp.network, SHAPE, 10)
        defense = magnet.Defense(options(**values), network)
        defense.begin(setting(mlp.preprocessing, SHAPE))
        return network, defense

    return make


def test_defaults_are_those_of_the_paper():
    found = options()
    assert (found.std, found.penalty, found.false_positives, found.temperatures) == (0.025, 1e-9, 0.005, [10, 40])


def test_the_autoencoder_by_hand():
    torch.manual_seed(0)
    network, images = Autoencoder(3, 2).double(), torch.rand(2, 3, 5, 6).double()
    one, two, three = network.convolutions
    assert [tuple(c.weight.shape) for c in (one, two, three)] == [(2, 3, 3, 3), (2, 2, 3, 3), (3, 2, 3, 3)]
    maps = images
    for convolution in (one, two, three):
        linear = torch.nn.functional.conv2d(maps, convolution.weight, convolution.bias, padding=1)
        maps = 1 / (1 + (-linear).exp())
    assert torch.allclose(network(images), maps, atol=1e-12) and network(images).shape == images.shape
    assert [part.shape[1] for part in network.activations(images)] == [2, 2, 3]
    wide = Autoencoder(3, 64).convolutions[1]
    assert float(wide.weight.detach().std()) == pytest.approx((2 / (2 * 9 * 64)) ** 0.5, rel=0.03)
    assert wide.weight.abs().max() <= (6 / (2 * 9 * 64)) ** 0.5 and wide.bias.abs().max() == 0


@pytest.mark.parametrize("temperature", [1.0, 10.0, 40.0])
def test_divergence_is_that_of_scipy(temperature):
    torch.manual_seed(0)
    one, other = 30 * torch.randn(2, 20, 10).double()
    p, q = ((logits / temperature).softmax(1).numpy() for logits in (one, other))
    expected = np.array([jensenshannon(a, b) ** 2 for a, b in zip(p, q, strict=True)])
    assert divergence(one, other, temperature).numpy() == pytest.approx(expected, abs=1e-9)
    assert divergence(one, one, temperature).abs().max() < 1e-12


def test_divergence_of_certain_and_opposite_predictions_is_the_logarithm_of_two():
    one, other = torch.tensor([[1000.0, 0.0]]), torch.tensor([[0.0, 1000.0]])
    assert divergence(one, other, 1.0).item() == pytest.approx(np.log(2), rel=1e-6)


def test_predictions_are_those_of_the_reformed_image(reformed, mlp, digit_images):
    network, _ = reformed()
    images = digit_images[0][:20]
    inputs = mlp.preprocessing(images)
    expected = mlp.network(mlp.preprocessing(network.autoencoder(images)))
    assert torch.allclose(network.eval()(inputs), expected, atol=1e-3)
    assert Classifier(mlp.preprocessing, network)(images).shape == (20, 10)


@pytest.mark.parametrize("order", [1, 2])
def test_marks_by_definition(order, reformed, mlp, digit_images):
    network, _ = reformed(order=order, temperatures=[5.0, 20.0])
    images = digit_images[0][:20]
    again = network.autoencoder(images)
    error = (images - again).detach().numpy().astype(np.float64)
    clean, after = mlp(images), mlp(again)
    marks = network.eval().marks(mlp.preprocessing(images))
    assert marks.shape == (20, 3) and not marks.requires_grad
    assert marks[:, 0].numpy() == pytest.approx((np.abs(error) ** order).reshape(20, -1).mean(1), rel=1e-4)
    for column, temperature in ((1, 5.0), (2, 20.0)):
        assert torch.allclose(marks[:, column], divergence(clean, after, temperature), atol=1e-5)
    assert reformed(temperatures=[])[0].marks(mlp.preprocessing(images)).shape == (20, 1)
    network.thresholds.copy_(torch.tensor([0.5, 2.0, 4.0]))
    reports = network.reports(mlp.preprocessing(images))
    assert reports.requires_grad and torch.allclose(reports.detach() * network.thresholds, marks)


@pytest.mark.parametrize(("share", "count"), [(0.1, 20), (0.005, 1), (0.004, 0), (1.0, 200)])
def test_thresholds_report_that_share_of_the_training_images(share, count, reformed, mlp, digit_images):
    network, defense = reformed(false_positives=share, temperatures=[500.0])
    inputs = mlp.preprocessing(digit_images[0][:200])
    assert not network.detects(inputs).any()  # nothing is reported before
    network.train()
    defense.finish(lambda: iter(inputs.split(200)))
    assert network.training and not network.network.training
    reported = network.marks(inputs) >= network.thresholds
    assert reported.sum(0).tolist() == [count, count]
    assert torch.equal(network.detects(inputs), reported.any(1))
    assert torch.isfinite(network.thresholds).all()


def test_equal_marks_do_not_exceed_the_share(reformed, mlp, digit_images):
    network, defense = reformed(false_positives=0.5, temperatures=[])
    inputs = mlp.preprocessing(digit_images[0][:4])[[0, 0, 1, 2, 2, 2, 3, 3]]
    defense.finish(lambda: iter([inputs]))
    marks = network.marks(inputs)[:, 0]
    ranked = marks.sort(descending=True).values
    assert network.detects(inputs).sum() <= 4 and torch.equal(network.detects(inputs), marks > ranked[4])


def test_one_detector_is_enough_to_report(reformed, mlp, digit_images):
    network, _ = reformed(temperatures=[10.0])
    inputs = mlp.preprocessing(digit_images[0][:30])
    marks = network.marks(inputs)
    for column in (0, 1):
        network.thresholds.fill_(1e9)
        network.thresholds[column] = marks[:, column].median()
        assert torch.equal(network.detects(inputs), marks[:, column] >= marks[:, column].median())


def test_the_loss_by_hand(reformed, mlp, digit_images, ask):
    network, defense = reformed(std=0.3, penalty=1e-3)
    images, labels = (part[:16] for part in digit_images)
    inputs = mlp.preprocessing(images)
    torch.manual_seed(4)
    loss, logits = ask(defense, inputs, labels)
    torch.manual_seed(4)
    noisy = (network.pixels.images(inputs) + 0.3 * torch.randn_like(inputs)).clamp(0, 1)
    maps = network.autoencoder.activations(noisy)
    squares = sum((part**2).sum() for part in maps) / 16
    expected = ((maps[-1] - images) ** 2).mean() + 1e-3 * squares
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert squares > 1 and not logits.requires_grad and torch.equal(logits, network(inputs))
    torch.manual_seed(5)
    assert ask(defense, inputs, labels)[0].item() != loss.item()


def test_only_the_autoencoder_learns_and_the_classifier_sleeps(mlp, digit_images, trainer):
    layers = [torch.nn.Flatten(), torch.nn.Linear(784, 20), torch.nn.BatchNorm1d(20), torch.nn.Dropout(0.5)]
    classifier = torch.nn.Sequential(*layers, torch.nn.Linear(20, 10))
    before = copy.deepcopy(classifier.state_dict())
    torch.manual_seed(0)
    network = magnet.change(options(), classifier, SHAPE, 10)
    start = copy.deepcopy(network.autoencoder.state_dict())
    images, labels = (part[:100] for part in digit_images)
    made = trainer(network, "magnet", {}, images, labels, optimizer="adam", learning_rate=0.02, epochs=6)
    history = made.run()
    assert history[-1]["train_loss"] < 0.7 * history[1]["train_loss"]
    assert all(torch.equal(before[key], tensor) for key, tensor in classifier.state_dict().items())
    assert all(not torch.equal(start[key], tensor) for key, tensor in network.autoencoder.state_dict().items())
    assert set(made.optimizer.weights) == {f"network.autoencoder.{key}" for key in start}
    network.train()
    assert network.autoencoder.training and not any(module.training for module in classifier.modules())


def test_a_trained_one_keeps_predictions_and_reports_noise(reformed, mlp, digit_images, trainer):
    network, defense = reformed(width=6, temperatures=[10.0], false_positives=0.02)
    images, labels = digit_images
    inputs = mlp.preprocessing(images)
    made = trainer(
        network, "magnet", {"width": 6}, inputs[:200], labels[:200],
        layer=mlp.preprocessing, epochs=25, batch_size=20, optimizer="adam", learning_rate=0.02,
    )  # fmt: skip
    made.run()
    defense.finish(lambda: iter(inputs[:200].split(100)))
    network.eval()
    error = (network.autoencoder(images[200:]) - images[200:]).square().mean()
    assert error < 0.2 * images[200:].var()
    accuracy = (network(inputs[200:]).argmax(1) == labels[200:]).float().mean()
    assert accuracy > (mlp.network(inputs[200:]).argmax(1) == labels[200:]).float().mean() - 0.15
    noise = 0.5 * torch.randn(images[200:].shape, generator=torch.Generator().manual_seed(0))
    noisy = mlp.preprocessing((images[200:] + noise).clamp(0, 1))
    assert network.detects(inputs[200:]).float().mean() < 0.1
    assert network.detects(noisy).float().mean() > 0.8


def test_it_starts_from_a_classifier_or_from_another_one(reformed, mlp):
    network, _ = reformed()
    other, _ = reformed()
    torch.nn.init.normal_(other.autoencoder.convolutions[0].weight)
    other.thresholds.fill_(3.0)
    state = {key: tensor.clone() + 1 for key, tensor in mlp.network.state_dict().items()}
    kept = copy.deepcopy(network.autoencoder.state_dict())
    magnet.adopt(network, state)
    assert all(torch.equal(state[key], tensor) for key, tensor in network.network.state_dict().items())
    assert all(torch.equal(kept[key], tensor) for key, tensor in network.autoencoder.state_dict().items())
    magnet.adopt(network, copy.deepcopy(other.state_dict()))
    assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in network.state_dict().items())
    with pytest.raises(RuntimeError):
        magnet.adopt(network, {"fc9.weight": torch.ones(2)})


@pytest.mark.parametrize("layer", [Standardised(1), MeanImage(SHAPE)])
def test_the_way_to_images_travels_with_the_weights(layer, mlp, setting):
    for buffer in layer.buffers():
        torch.nn.init.uniform_(buffer, 0.2, 0.7)
    network = Reformed(mlp.network, SHAPE, 3)
    magnet.Defense(options(), network).begin(setting(layer, SHAPE))
    fresh = Reformed(copy.deepcopy(mlp.network), SHAPE, 3)
    fresh.load_state_dict(network.state_dict())
    images = torch.rand(4, *SHAPE)
    assert torch.allclose(fresh.pixels.images(layer(images)), images, atol=1e-5)


# -- rows of attacks --------------------------------------------------------------------------------------------------


@pytest.fixture
def scored(digit_images):
    """Function (model, space) to the rows of images that were moved by noise."""

    def make(model, space="pixels", repetitions=1, amount=0.4):
        images, labels = (part[:30] for part in digit_images)
        victim = Victim(model, space)
        inputs = victim.inputs(images)
        noise = amount * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        moved = victim.inputs((images + noise).clamp(0, 1))
        batch = {"inputs": inputs, "labels": labels, "positions": torch.arange(30)}
        entry = AttackEntry(id="a", attack="fgs", repetitions=repetitions)
        return moved, list(rows_of(victim, Crafted(0, moved, {}), batch, entry))

    return make


@pytest.mark.parametrize("space", ["pixels", "preprocessed"])
def test_rows_tell_what_is_detected(space, scored, reformed, mlp, digit_images):
    network, defense = reformed(false_positives=0.1, temperatures=[])
    defense.finish(lambda: iter([mlp.preprocessing(digit_images[0][:100])]))
    model = Classifier(mlp.preprocessing, network).eval()
    # Between the marks of the images, so that some of the moved ones are reported and others are not.
    moved, _ = scored(model, space)
    marks = network.marks(moved if space == "preprocessed" else mlp.preprocessing(moved))[:, 0]
    network.thresholds.fill_(float(marks.median()))
    _, (rows,) = scored(model, space)
    assert rows["detected"].dtype == bool and 0 < rows["detected"].sum() < 30
    assert rows["detected"].tolist() == (marks >= marks.median()).tolist()


def test_models_without_a_detector_have_no_such_column(scored, mlp):
    _, (rows,) = scored(mlp)
    assert "detected" not in rows
