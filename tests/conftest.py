"""Shared tiny data and networks: real digits, trained for seconds, once for the whole session."""

import contextlib
import copy
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from redoubt import registry
from redoubt.data import digits, store
from redoubt.data.sources import SOURCES
from redoubt.defenses.interface import Batch, Moment, Setting
from redoubt.errors import cli
from redoubt.files import entry_digest
from redoubt.layout import preprocessing_file
from redoubt.models import weights
from redoubt.models.classifier import Classifier, build
from redoubt.steps import prepare
from redoubt.study.entries.attack import AttackEntry
from redoubt.study.entries.base import Method
from redoubt.study.entries.model import ModelEntry, Training
from redoubt.study.reading import spelt
from redoubt.training.loop import Trainer, steps_of
from redoubt.training.resume import Resume
from redoubt.training.trace import Trace

torch.set_num_threads(1)

SHAPE, CLASSES = (1, 28, 28), 10


@pytest.fixture(autouse=True)
def one_thread():
    """Keep to one thread and leave the global generator as it was."""
    torch.set_num_threads(1)
    state = torch.random.get_rng_state()
    yield
    torch.random.set_rng_state(state)


@pytest.fixture(scope="session")
def digit_arrays():
    """Training and test digits, uint8 (N, 1, 28, 28), and labels."""
    return digits.build(SOURCES["digits"])


@pytest.fixture(scope="session")
def digit_images(digit_arrays):
    """450 test digits, float32 in [0, 1], and their labels."""
    images, labels = digit_arrays["test"]
    return torch.from_numpy(images).float() / 255, torch.from_numpy(labels)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory, digit_arrays):
    """A published dataset: 200 training and 60 test digits."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    splits = {
        split: {"images": digit_arrays[split][0][:count], "labels": digit_arrays[split][1][:count]}
        for split, count in (("train", 200), ("test", 60))
    }
    meta = {"name": "digits", "title": "Digits", "shape": list(SHAPE), "classes": [str(n) for n in range(10)]}
    store.publish(folder, splits, meta)
    return folder


def fitted(data, named, folder):
    """Fit preprocessing on a published dataset into `folder`; return the file."""
    digest = entry_digest(Method.parse(named))
    out = folder / Path(preprocessing_file("digits", named["name"], digest)).name
    if not out.exists():
        assert prepare.main(["--entry", json.dumps(named), "--data", str(data), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def prepare_once(tiny_data, tmp_path_factory):
    """Function (model's entry) to the file of what its preprocessing learns from the tiny data, for all tests."""
    folder = tmp_path_factory.mktemp("prepared")

    def make(entry):
        with contextlib.redirect_stdout(io.StringIO()):
            return fitted(tiny_data, entry["preprocessing"], folder)

    return make


@pytest.fixture
def prepared(prepare_once):
    """The same function."""
    return prepare_once


@pytest.fixture(scope="session")
def setting():
    """Function (preprocessing layer, shape of an image, device) to what a defense is given at the start."""

    def make(layer=None, shape=SHAPE, count=100):
        schedule = Training(epochs=1, batch_size=10, learning_rate=0.001)
        layer = torch.nn.Identity() if layer is None else layer
        return Setting(layer, shape, CLASSES, schedule, count, 10, torch.device("cpu"))

    return make


@pytest.fixture(scope="session")
def ask():
    """Function (defense, inputs, labels) to loss and logits of these images at the first step."""

    def loss(defense, inputs, labels):
        return defense.loss(Batch(inputs, labels, torch.arange(len(labels))), Moment(0, 0, 10, 100))

    return loss


@pytest.fixture(scope="session")
def publish():
    """Function (model, entry, folder) that writes a model's files as training does; it returns weights and facts."""

    def write(model, entry, folder, shape=SHAPE, classes=CLASSES):
        folder.mkdir(parents=True, exist_ok=True)
        named = Method.parse(entry["preprocessing"])
        content = weights.preprocessing_content(model.preprocessing, named, "of no data")
        (folder / "preprocessing.safetensors").write_bytes(content)
        state = weights.encoded(model.network, folder / "weights.safetensors")
        (folder / "weights.safetensors").write_bytes(state)
        facts = {"entry": entry, "shape": list(shape), "classes": [str(number) for number in range(classes)]}
        facts["sha256"] = hashlib.sha256(state).hexdigest()
        facts["preprocessing"] = {"name": named.name, "sha256": hashlib.sha256(content).hexdigest()}
        (folder / "model.json").write_text(json.dumps(facts))
        return folder / "weights.safetensors", folder / "preprocessing.safetensors"

    return write


def model_entry(
    network="mlp", width=0.1, start=None, defense="clean", parameters=None, preprocessing="mean-image", **training
):
    """Return the entry of a model, as the catalog writes it."""
    rms = {"mean-image": 60.0}.get(preprocessing, 1.0)
    return ModelEntry(
        id="tiny-model" if start is None and defense == "clean" else f"tiny-model-{defense}",
        dataset="digits",
        network=spelt(network, registry.parameters("networks", network, {"width": width, "input_rms": rms})),
        preprocessing=spelt(preprocessing, registry.parameters("preprocessing", preprocessing, {})),
        defense={
            **spelt(defense, registry.parameters("defenses", defense, parameters or {})),
            "changes": registry.method("defenses", defense).DECLARES.changes,
        },
        training={"epochs": 2, "batch_size": 20, "learning_rate": 0.002, "optimizer": "adam", **training},
        start=start,
    ).dump()


def attack_entry(attack="deepfool", **changes):
    """Return the entry of an attack, as the catalog writes it."""
    kind = "probes" if attack in registry.names("probes") else "attacks"
    options = registry.parameters(kind, attack, changes.pop("parameters", {}))
    entry = {"id": f"{attack}-test", kind.removesuffix("s"): attack, "space": "preprocessed", **spelt(attack, options)}
    del entry["name"]
    select = {"images": 40, **changes.pop("select", {})}
    return AttackEntry(**{**entry, "select": select, **changes}).dump()


@pytest.fixture(scope="session")
def make_entry():
    """The function that writes a model's entry."""
    return model_entry


@pytest.fixture(scope="session")
def make_attack():
    """The function that writes an attack's entry."""
    return attack_entry


def trained(network, width, digit_arrays, steps):
    """Return a small model in eval mode, trained on the digits for some steps.

    Drawn and trained in double precision, so that processors, which round differently, get the same but for 1e-8.
    """
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        model = build(model_entry(network, width), SHAPE, CLASSES).double()
    finally:
        torch.set_default_dtype(torch.float32)
    images, labels = digit_arrays["train"]
    images, labels = torch.from_numpy(images).double() / 255, torch.from_numpy(labels)
    model.preprocessing.mean.copy_(255 * images.mean(0))
    inputs = model.preprocessing(images)
    optimizer = torch.optim.Adam(model.parameters(), 0.002)
    for step in range(steps):
        own = torch.randperm(len(labels), generator=torch.Generator().manual_seed(step))[:100]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model.network(inputs[own]), labels[own]).backward()
        optimizer.step()
    return model.float().eval()


@pytest.fixture(scope="session")
def _mlp(digit_arrays):
    return trained("mlp", 0.2, digit_arrays, 120)


@pytest.fixture(scope="session")
def _lenet(digit_arrays):
    return trained("lenet", 0.2, digit_arrays, 80)


@pytest.fixture
def mlp(_mlp) -> Classifier:
    """An MLP with more than 90 % accuracy, a fresh copy."""
    return copy.deepcopy(_mlp)


@pytest.fixture
def lenet(_lenet) -> Classifier:
    """A LeNet with more than 90 % accuracy, a fresh copy."""
    return copy.deepcopy(_lenet)


@pytest.fixture
def affine():
    """Function (weight (classes, features), bias) to an affine network on inputs (N, features) or images."""

    def make(weight, bias):
        weight, bias = torch.as_tensor(weight), torch.as_tensor(bias)
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0]).to(weight.dtype)
        layer.weight.data.copy_(weight)
        layer.bias.data.copy_(bias)
        return torch.nn.Sequential(torch.nn.Flatten(), layer).eval()

    return make


@pytest.fixture
def snapshot():
    """Function that returns all that an attack must leave alone: weights, buffers, modes and gradients."""

    def take(network):
        tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        return (
            tensors,
            [module.training for module in network.modules()],
            [p.grad for p in network.parameters()],
        )

    return take


@pytest.fixture
def unchanged(snapshot):
    """Function that tells whether a network is as a snapshot of it was."""

    def compare(before, network):
        now = snapshot(network)
        same = all(torch.equal(tensor, now[0][name]) for name, tensor in before[0].items())
        return same and before[1] == now[1] and all(grad is None for grad in now[2])

    return compare


@pytest.fixture
def failure(capfd):
    """Function that runs a step's main as the command line does and returns its one line of error."""

    def run(main, arguments):
        capfd.readouterr()
        assert cli(lambda _: main([str(argument) for argument in arguments])) == 2
        captured = capfd.readouterr()
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1, captured.err
        return captured.err

    return run


@pytest.fixture
def trainer():
    """Function (network, defense's name, parameters, inputs, labels, **schedule) to a trainer."""

    def make(
        network,
        name,
        parameters,
        inputs,
        labels,
        folder=None,
        every=0.0,
        frozen=False,
        layer=None,
        wrap=None,
        **schedule,
    ):
        options = registry.parameters("defenses", name, parameters)
        defense = registry.method("defenses", name).Defense(options, network)
        schedule = Training(**{"epochs": 2, "batch_size": 10, "learning_rate": 0.001, **schedule})
        if layer is not None:
            steps = steps_of(schedule, len(labels))[1]
            given = Setting(layer, inputs.shape[1:], CLASSES, schedule, len(labels), steps, inputs.device)
            defense.begin(given)
        return Trainer(
            network=network,
            defense=defense if wrap is None else wrap(defense),
            schedule=schedule,
            names=("test", 0),
            batch=lambda positions: (inputs[positions], labels[positions]),
            count=len(labels),
            evaluate=lambda: {"test_accuracy": float((network(inputs).argmax(1) == labels).float().mean())},
            resume=Resume(folder, every=every),
            frozen_norms=frozen,
            trace=Trace(schedule.probes, ("test", 0), network, lambda: iter([(inputs[:20], labels[:20])])),
        )

    return make


@pytest.fixture
def weights_bytes():
    """Function that returns all weights and buffers of a network as bytes."""
    return lambda network: b"".join(tensor.detach().numpy().tobytes() for tensor in network.state_dict().values())


@pytest.fixture(scope="session")
def as_json():
    """The function that writes an entry for the command line."""
    return lambda entry: json.dumps(entry)


@pytest.fixture
def arrays():
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture
def counting():
    """Make a network that counts its passes forward and backward, of all images together; returns it and the counts."""

    def make(network):
        passes = {"forward": 0, "backward": 0}

        def counted(inputs):
            passes["forward"] += len(inputs)
            logits = network(inputs)
            if logits.requires_grad:
                logits.register_hook(lambda slopes: passes.update(backward=passes["backward"] + len(slopes)))
            return logits

        return counted, passes

    return make


@pytest.fixture(scope="session")
def between():
    """An affine network of three classes, 15 images within [0, 1] of class 0, all equally near to class 1, far from 2.

    The other parts: labels, the slopes of the margin (features,), and the gap in the logits.
    """
    draw, gap = torch.Generator().manual_seed(0), 0.8
    slopes, images = torch.randn(30, generator=draw), 0.5 + 0.05 * torch.randn(15, 30, generator=draw)
    images += ((-gap - images @ slopes) / slopes.square().sum())[:, None] * slopes
    layer = torch.nn.Linear(30, 3).requires_grad_(False)
    layer.weight.copy_(torch.stack([0 * slopes, slopes, 0 * slopes]))
    layer.bias.copy_(torch.tensor([0.0, 0.0, -50.0]))
    network = torch.nn.Sequential(torch.nn.Flatten(), layer).eval()
    return network, images.view(15, 1, 5, 6), torch.zeros(15, dtype=torch.int64), slopes, gap
