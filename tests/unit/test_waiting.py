"""Loops that never wait for a GPU, run on a device that has no values: whoever asks for one gets an error.

`meta` is torch's device of shapes alone. What waits for a GPU fails there: `.item()`, `bool()`, `.cpu()`, `nonzero`,
masks as indices. Two more are refused here: a tensor that is sent and waited for, and a tensor of the CPU as an index.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from redoubt import registry
from redoubt.attacks import _losses as losses
from redoubt.attacks import pgd
from redoubt.attacks.interface import thin_now
from redoubt.device import choose, sent
from redoubt.networks import _nearest as stripes
from redoubt.networks import _peers as peers
from redoubt.networks import _streaming as streaming
from redoubt.study.entries.model import Training
from redoubt.training.data import augment
from redoubt.training.loop import Trainer
from redoubt.training.resume import Resume

META = torch.device("meta")


class NeverWaiting(TorchDispatchMode):
    """Refuses what would wait for a GPU and still runs on `meta`."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        name = function.overloadpacket._qualified_op_name
        kinds = [leaf.device.type for leaf in tree_leaves(arguments) if isinstance(leaf, torch.Tensor) and leaf.dim()]
        if name == "aten::_to_copy" and kinds == ["cpu"] and str(options.get("device")) == "meta":
            assert options.get("non_blocking"), "a tensor is sent, and waited for"
        if name == "aten::index" and "meta" in kinds:
            assert "cpu" not in kinds, "a tensor of the CPU is an index"
        return function(*arguments, **options)


@pytest.mark.parametrize(
    "wait",
    [
        lambda rows: rows.sum().item(),
        lambda rows: bool(rows.any()),
        lambda rows: rows.cpu(),
        lambda rows: rows.tolist(),
        lambda rows: rows.nonzero(),
        lambda rows: rows[rows > 0],
        lambda rows: rows[torch.arange(2)],
        lambda _: torch.arange(2).to(META),
    ],
)
def test_who_waits_is_noticed(wait):
    with NeverWaiting(), pytest.raises((RuntimeError, NotImplementedError, AssertionError)):
        wait(torch.ones(3, device=META))


def test_what_is_sent_arrives_and_is_not_waited_for():
    with NeverWaiting():
        assert sent(torch.arange(2), META).device == META
    assert sent(torch.arange(3), torch.device("cpu")).tolist() == [0, 1, 2]


def network(channels=3):
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 10)
    )


def trained(name, body, parameters=None, count=12):
    """Train an epoch by a defense, without values; the loop's checks are left out, and what learns from values."""
    inputs, labels = torch.rand(count, 3, 8, 8, device=META), torch.zeros(count, dtype=torch.int64, device=META)
    body = body.to(META)
    defense = registry.method("defenses", name).Defense(registry.parameters("defenses", name, parameters or {}), body)
    schedule = Training(
        epochs=1, batch_size=4, learning_rate=0.1, augmentation=["horizontal-flip", "random-crop"], weight_decay=1e-4
    )
    trainer = Trainer(
        network=body,
        defense=defense,
        schedule=schedule,
        names=("test", 0),
        batch=lambda places: (inputs[sent(places, META)], labels[sent(places, META)]),
        count=count,
        evaluate=lambda: {"test_accuracy": 0.0},
        resume=Resume(None),
    )
    trainer._check, trainer._finish_epoch = lambda _: None, lambda: None
    with NeverWaiting():
        trainer._epoch()
    assert trainer.done == trainer.last == 3


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("clean", {}),
        ("pgd-training", {"steps": 3}),
        ("pgd-training", {"steps": 3, "norm": "l2", "clean": 0.5, "mode": "eval"}),
        ("pgd-training", {"steps": 2, "label": "predicted", "clean_weight": 0.5, "mode": "eval"}),
        ("fgsm-training", {}),
    ],
)
def test_training_never_waits(name, parameters):
    trained(name, network(), parameters)


def test_peer_layers_never_wait(monkeypatch):
    monkeypatch.setitem(stripes.STRIPE, "meta", stripes.STRIPE["cuda"])
    asked = []

    def nearest(queries, candidates, count, own=None):
        asked.append(streaming._barred(tuple(map(tuple, own)), torch.device("cpu")))
        return torch.zeros(len(queries), count, dtype=torch.int64, device=META), None

    monkeypatch.setattr(streaming, "takes", lambda *_: True)
    monkeypatch.setattr(streaming, "nearest", nearest)
    torch.manual_seed(0)
    made = peers.add_peer_regularization(network(), ["2"], (3, 8, 8), peers=2, draws=1)
    trained("clean", made)
    assert len(asked) == 3


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("stop", [False, True])
def test_pgd_waits_only_where_finished_images_may_leave(stop, norm, monkeypatch):
    asked = []
    monkeypatch.setattr(pgd.interface, "thin_now", lambda *given: asked.append(thin_now(*given)))
    body, images = network().to(META).eval(), torch.rand(5, 3, 8, 8, device=META)
    labels, radii = torch.zeros(5, dtype=torch.int64, device=META), torch.full((5,), 0.1, device=META)
    goal = losses.Goal("cross-entropy")
    options = {"steps": 20, "norm": norm, "bounds": (0.0, 1.0), "stop": stop}
    with NeverWaiting():
        found = pgd.ascend(body, images, labels, images, radii, radii, goal, **options)
    assert found.points.shape == images.shape and asked == ([False] * 9 + [True]) * 2 * stop


@pytest.mark.parametrize("kinds", [[], ["horizontal-flip"], ["random-crop"], ["horizontal-flip", "random-crop"]])
def test_augmentation_never_waits(kinds):
    with NeverWaiting():
        assert augment(torch.rand(4, 3, 8, 8, device=META), kinds).shape == (4, 3, 8, 8)


def test_the_wait_at_a_check_counts_as_time_of_the_steps(monkeypatch, mlp, digit_images, trainer):
    images, labels = digit_images
    made = trainer(mlp.network, "clean", {}, mlp.preprocessing(images), labels)
    clock = iter([10.0, 13.0])
    monkeypatch.setattr("redoubt.training.loop.time.perf_counter", lambda: next(clock))
    made._sums += 1
    made._check(type("Bar", (), {"set_postfix": lambda *_, **__: None})())
    assert made._seconds == 3.0


def test_a_gpu_computes_the_same_way_each_time_and_fills_nothing_for_it(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *given, **_: asked.append(given))
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    assert choose("auto", 1).type == "cuda" and asked == [(True,)]
    assert not torch.utils.deterministic.fill_uninitialized_memory and not torch.backends.cudnn.benchmark
