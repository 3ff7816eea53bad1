"""The defense of docs/tutorial-defense.md is code that works: it trains, and its penalty is what the page says."""

import re
import sys
from pathlib import Path

import pytest
import torch

import redoubt.defenses
from redoubt import registry
from redoubt.defenses.interface import Batch, Moment
from redoubt.layout import study_file
from redoubt.study.files import read_study

PAGE = Path(__file__).resolve().parents[2] / "docs/tutorial-defense.md"


def block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]


@pytest.fixture
def tutorial(tmp_path, monkeypatch):
    """The module of the page, as a file among the defenses."""
    (tmp_path / "gradient_penalty.py").write_text(block("python"))
    monkeypatch.setattr(redoubt.defenses, "__path__", [*redoubt.defenses.__path__, str(tmp_path)])
    yield registry.method("defenses", "gradient-penalty")
    sys.modules.pop("redoubt.defenses.gradient_penalty", None)
    vars(redoubt.defenses).pop("gradient_penalty", None)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return Batch(torch.rand(20, 1, 8, 8), torch.arange(20) % 3, torch.arange(20))


def made(tutorial, **parameters):
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    return tutorial.Defense(tutorial.Parameters(**parameters), network)


def moment(step: int) -> Moment:
    return Moment(epoch=step // 10, step=step, steps_per_epoch=10, count=200)


def slope(network, batch) -> float:
    """Return the mean squared norm of the gradient of an image's cross-entropy."""
    total = 0.0
    for image, label in zip(batch.inputs, batch.labels, strict=True):
        image = image[None].clone().requires_grad_()
        torch.nn.functional.cross_entropy(network(image), label[None]).backward()
        total += float(image.grad.square().sum())
    return total / len(batch.labels)


def test_the_penalty_grows_during_the_first_epoch(tutorial, batch):
    plain = made(tutorial, strength=0.0).loss(batch, moment(10))[0].item()
    penalty = slope(made(tutorial).network, batch)
    for step, share in ((0, 0.0), (5, 0.5), (10, 1.0), (90, 1.0)):
        loss = made(tutorial, strength=2.0).loss(batch, moment(step))[0].item()
        assert loss == pytest.approx(plain + 2.0 * share * penalty, rel=1e-4)


def test_a_step_makes_the_gradient_with_respect_to_the_input_smaller(tutorial, batch):
    defense = made(tutorial, strength=100.0)
    optimizer = torch.optim.SGD(defense.network.parameters(), 1e-3)
    before = slope(defense.network, batch)
    loss, logits = defense.step(batch, moment(10), optimizer)
    assert slope(defense.network, batch) < 0.95 * before
    assert loss.isfinite() and logits.shape == (20, 3)


def test_the_study_of_the_page_is_valid(tutorial, tmp_path):
    (tmp_path / "config/studies/tutorial").mkdir(parents=True)
    parts = re.findall(r"go(?:es)? to `(\w+)\.yaml`", PAGE.read_text())
    texts = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for part, text in zip(parts, texts, strict=True):
        (tmp_path / study_file("tutorial", part)).write_text(text)
    study = read_study(tmp_path, "tutorial")
    assert len(study.evaluations[0].models) == 2 and "table-1" in study.artifacts
    assert "digits-mlp-gradient-penalty" in study.models
    assert registry.parameters("defenses", "gradient-penalty", {"strength": 10}).warm_up == 1.0
