"""Probes of trainings: distances of logits by hand, what a probe sees of a batch, and steps beside normal ones."""

import io
import itertools
import math

import pandas as pd
import pytest
import torch

from redoubt import registry
from redoubt.defenses.interface import BaseDefense
from redoubt.errors import RedoubtError
from redoubt.preprocessing._layers import MeanImage, Standardised
from redoubt.probes import _turns, epoch_time
from redoubt.probes.interface import View

LABELS = torch.tensor([0, 1, 0, 1, 1])


@pytest.fixture
def inputs():
    return (torch.rand(5, 1, 3, 3, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2).clamp(0, 1)


@pytest.fixture
def network(affine):
    return affine(torch.randn(4, 9, generator=torch.Generator().manual_seed(1)), torch.zeros(4))


def distances(network, inputs, labels, preprocessing=None, **values):
    view = View(network, lambda: iter(()), 1, 0.1, 0.0, (inputs, labels), preprocessing)
    return registry.method("probes", "logit-distances").measure(
        view, registry.parameters("probes", "logit-distances", values)
    )


# -- distances of logits ----------------------------------------------------------------------------------------------


def test_distances_are_means_over_pairs(network, inputs):
    torch.manual_seed(0)
    found = distances(network, inputs, LABELS, clip=False, xi=0.1)
    logits = network(inputs).tolist()
    intra = [math.dist(logits[i], logits[j]) for i, j in ((0, 2), (1, 3), (1, 4), (3, 4))]
    inter = [math.dist(logits[i], logits[j]) for i in (0, 2) for j in (1, 3, 4)]
    torch.manual_seed(0)
    moved = 0.1 * torch.randn_like(inputs).sign()
    per = network[1].weight.detach() @ moved.flatten(1).T
    assert found == {
        "d_per": pytest.approx(float(per.norm(dim=0).mean()), rel=1e-5),
        "d_intra": pytest.approx(sum(intra) / 4, rel=1e-5),
        "d_inter": pytest.approx(sum(inter) / 6, rel=1e-5),
    }


def test_noise_is_that_of_perceptual_prior(network, inputs):
    options = registry.parameters("defenses", "perceptual-prior", {"xi": 0.2})
    defense = registry.method("defenses", "perceptual-prior").Defense(options, network)
    torch.manual_seed(3)
    copies = defense.copies(inputs)
    torch.manual_seed(3)
    found = distances(network, inputs, LABELS, xi=0.2)["d_per"]
    assert found == pytest.approx(float((network(copies) - network(inputs)).norm(dim=1).mean().detach()), rel=1e-5)
    torch.manual_seed(3)
    assert distances(network, inputs, LABELS, xi=0.2, clip=False)["d_per"] > found * 1.001


@pytest.mark.parametrize("kind", ["mean-image", "standardised"])
def test_noise_is_measured_on_images(kind, network, inputs):
    layer = MeanImage((1, 3, 3)) if kind == "mean-image" else Standardised(1)
    layer.mean.fill_(0.25)
    if kind == "standardised":
        layer.std.fill_(0.5)
    scale = 255.0 if kind == "mean-image" else 2.0
    for clip in (True, False):
        torch.manual_seed(0)
        plain = distances(network, inputs, LABELS, clip=clip)
        torch.manual_seed(0)
        found = distances(network, layer(inputs), LABELS, layer, clip=clip)
        assert all(found[name] == pytest.approx(scale * plain[name], rel=1e-3) for name in plain)


def test_pairs_that_do_not_exist_have_no_mean(network, inputs):
    assert list(distances(network, inputs, torch.arange(5))) == ["d_per", "d_inter"]
    assert list(distances(network, inputs, torch.zeros(5, dtype=torch.long))) == ["d_per", "d_intra"]
    assert list(distances(network, inputs[:1], LABELS[:1])) == ["d_per"]
    view = View(network, lambda: iter(()), 0, 0.0, 0.0)
    assert registry.method("probes", "logit-distances").measure(view, None) == {}


# -- what a probe sees of a training ----------------------------------------------------------------------------------


@pytest.fixture
def digits(digit_images):
    return digit_images[0][:60], digit_images[1][:60]


def mlp(seed=0):
    torch.manual_seed(seed)
    parameters = registry.parameters("networks", "mlp", {"width": 0.1})
    return registry.method("networks", "mlp").build(parameters, (1, 28, 28), 10)


@pytest.mark.parametrize("defense", ["clean", "pgd-training"])
def test_a_probe_sees_the_clean_batch_of_the_last_step(defense, digits, trainer, monkeypatch):
    views, batches = [], []
    monkeypatch.setattr(
        registry.method("probes", "logit-distances"), "measure", lambda view, _: views.append(view) or {}
    )
    values = {"steps": 1} if defense == "pgd-training" else {}
    probes = [{"probe": "logit-distances", "every": 2}]
    made = trainer(mlp(), defense, values, *digits, epochs=1, batch_size=20, probes=probes)
    step = made.defense.step
    made.defense.step = lambda batch, *rest: batches.append(batch) or step(batch, *rest)
    made.run()
    assert [view.step for view in views] == [0, 2] and views[0].batch is None
    assert torch.equal(views[1].batch[0], batches[1].inputs) and torch.equal(views[1].batch[1], batches[1].labels)
    assert torch.equal(batches[1].inputs, digits[0][batches[1].positions]) and len(batches) == 3


@pytest.mark.parametrize("defense", ["clean", "perceptual-prior"])
def test_probes_change_no_number_of_a_training(defense, digits, trainer, weights_bytes):
    plain, probed = mlp(), mlp()
    history = trainer(plain, defense, {}, *digits, batch_size=20).run()
    probes = [{"probe": "logit-distances", "every": 2}, {"probe": "epoch-time", "parameters": {"repetitions": 1}}]
    made = trainer(probed, defense, {}, *digits, batch_size=20, probes=probes)
    assert str(made.run()) == str(history) and weights_bytes(probed) == weights_bytes(plain)
    frame = pd.read_parquet(io.BytesIO(made.trace.parquet()))
    assert frame[frame["measure"] == "d_per"]["step"].tolist() == [2, 4, 6]
    assert frame[frame["measure"] == "ratio"]["epoch"].tolist() == [0, 1, 2]
    assert (frame["value"] > 0).all()


# -- steps beside normal ones -----------------------------------------------------------------------------------------


def test_the_ratio_is_that_of_times_side_by_side(network, monkeypatch):
    clock = itertools.count()
    now = {"time": 0.0}

    def takes(seconds):
        def step():
            next(clock)
            now["time"] += seconds

        return step

    monkeypatch.setattr(_turns, "_now", lambda device, _: now["time"])
    works = {"own": takes(3.0), "normal": takes(2.0)}
    view = View(network, lambda: iter(()), 0, 0.0, 0.0, steps=lambda: works)
    parameters = registry.parameters("probes", "epoch-time", {"repetitions": 4, "steps": 5})
    assert epoch_time.measure(view, parameters) == {"ratio": 1.5, "step_seconds": 3.0, "normal_step_seconds": 2.0}
    assert next(clock) == 2 * (1 + 4) * 5
    with pytest.raises(RedoubtError, match="there is no training"):
        epoch_time.measure(View(network, view.inputs, 0, 0.0, 0.0), parameters)


def test_steps_are_those_of_the_training_on_copies(digits, trainer, weights_bytes):
    network = mlp()
    made = trainer(network, "perceptual-prior", {"lambda": 0.1}, *digits, batch_size=20, epochs=1)
    made.run()
    before = weights_bytes(network)
    network.eval()
    seen = {}

    def watched(name, step):
        sizes = []
        handle = torch.nn.modules.module.register_module_forward_pre_hook(
            lambda module, given: (
                sizes.append((len(given[0]), module.training)) if type(module).__name__ == "Sequential" else None
            )
        )
        step()
        handle.remove()
        seen[name] = sizes

    for name, step in made.beside_normal().items():
        watched(name, step)
    assert seen == {"own": [(40, True)], "normal": [(20, True)]}
    assert weights_bytes(network) == before and not network.training


def test_a_normal_step_is_that_of_clean_training(digits, trainer, weights_bytes, monkeypatch):
    networks = []
    step = BaseDefense.step
    monkeypatch.setattr(BaseDefense, "step", lambda self, *a: (step(self, *a), networks.append(self.network))[0])
    made = trainer(mlp(), "pgd-training", {"steps": 1}, *digits, batch_size=20)
    made.beside_normal()["normal"]()
    (copied,) = networks
    expected = mlp()
    inputs, labels = digits[0][:20], digits[1][:20]
    optimizer = torch.optim.SGD(expected.parameters(), 0.001, 0.9)
    torch.nn.functional.cross_entropy(expected(inputs), labels).backward()
    optimizer.step()
    assert weights_bytes(copied) == weights_bytes(expected) != weights_bytes(made.network)


def test_frozen_norms_stay_frozen_beside(digits, trainer):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10), torch.nn.BatchNorm1d(10))
    made = trainer(network, "clean", {}, *digits, batch_size=20, frozen=True)
    seen = []
    network[2].register_forward_hook(lambda module, *_: seen.append(module.training))
    for step in made.beside_normal().values():
        step()
    assert seen == [False, False]
