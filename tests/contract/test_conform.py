"""`redoubt.tools.conform`: methods of ours pass; each planted mistake fails the check that is for it."""

import importlib
import sys

import pytest

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.tools import _conform_attack, _conform_defense, conform

DEFENSE = '''\
"""A defense.{source}"""

import torch

from redoubt.defenses.interface import BaseDefense, Declaration
from redoubt.records import Strict

DECLARES = Declaration(pretrained=False, changes={changes}, {adaptive})
COUNT = [0]


class Parameters(Strict):
    """None."""


class Rounded(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs):
        return self.network((inputs * 3).round() / 3{noise})


class Defense(BaseDefense):
    """Training that remembers."""

    def __init__(self, parameters, network):
        super().__init__(parameters, network)
        self.mean = torch.zeros(())

    def loss(self, batch, moment):
        loss, logits = super().loss(batch, moment)
        self.mean = 0.9 * self.mean + 0.1 * loss.detach()
        COUNT[0] += 1
        return {loss}, logits
{change}
'''
CHANGE = "\n\ndef change(parameters, network, shape, classes):\n    return Rounded(network)\n"
ATTACK = '''\
"""An attack.{source}"""

import torch

from redoubt.attacks.interface import Crafted, score
from redoubt.records import Strict

NEEDS, THREAT, COST, ENGINES = "{needs}", "l-inf ball", "1 pass", ("redoubt",)


class Parameters(Strict):
    """The ball."""

    epsilons: list[float]


def run(network, batches, parameters, context):
    """Yield examples that are steps along a sign."""
    for start, inputs, labels in batches:
        for epsilon in parameters.epsilons:
            images = inputs.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(network(images), labels), images)
            found = (inputs + {size} * gradient.sign()).clamp(0, 1).detach()
            yield Crafted(start, found, {{"epsilon": torch.full((len(found),), epsilon)}})
'''
NONE = {"source": "\n\nSource: a test.\n", "changes": False, "noise": "", "loss": "loss", "change": ""} | {
    "adaptive": "adaptive=('margin',)"
}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Function (kind, text) that writes the file of a method, and its name; rooms are afterwards as they were."""
    for kind in registry.KINDS:
        package = importlib.import_module(f"redoubt.{kind}")
        monkeypatch.setattr(package, "__path__", list(package.__path__))

    def write(kind, text):
        file = tmp_path / kind / "of_a_test.py"
        file.parent.mkdir()
        file.write_text(text)
        return conform.found(str(file))

    yield write
    for kind in ("defenses", "attacks"):
        sys.modules.pop(f"redoubt.{kind}.of_a_test", None)
        vars(sys.modules[f"redoubt.{kind}"]).pop("of_a_test", None)


def asked(kind, name, check, **parameters):
    """Return the answer of one check."""
    checks = conform.KINDS[kind](name, registry.parameters(kind, name, parameters), "mlp")
    (answer,) = conform.answers((key, own) for key, own in checks if key == check)
    return answer


@pytest.mark.parametrize(
    ("check", "changes", "passes"),
    [
        ("documentation", {}, True),
        ("documentation", {"source": ""}, False),
        ("declaration", {"change": CHANGE}, False),
        ("repeatable", {"loss": "loss"}, True),
        ("repeatable", {"loss": "loss * (1 + 0.001 * COUNT[0])"}, False),
        ("resumable", {"loss": "loss"}, True),
        ("resumable", {"loss": "loss * (1 + self.mean)"}, False),
        ("loss", {"loss": "loss.detach()"}, False),
        ("draws", {"changes": True, "change": CHANGE, "noise": " + 0.1 * torch.randn_like(inputs)"}, False),
        ("gradients are not zero", {}, True),
        ("gradients are not zero", {"changes": True, "change": CHANGE}, False),
    ],
)
def test_a_planted_mistake_of_a_defense_fails_its_check(written, check, changes, passes):
    answer = asked(*written("defenses", DEFENSE.format(**NONE | changes)), check)
    assert answer.passed == passes, str(answer)
    assert passes or answer.meaning in str(answer)


def test_a_defense_names_its_adaptive_attack(written):
    _, name = written("defenses", DEFENSE.format(**NONE | {"adaptive": ""}))
    with pytest.raises(RedoubtError, match=r"of_a_test\.py: DECLARES: adaptive: give names of"):
        conform.main([name])


def test_adversaries_that_break_planted_defenses_are_tried(written):
    kind, name = written("defenses", DEFENSE.format(**NONE | {"changes": True, "change": CHANGE}))
    own = _conform_defense._Tried(name, registry.parameters(kind, name, {}), "mlp")
    blind, fair = own.adversaries(1.0), own.adversaries(0.0)
    assert not blind.passed and fair.passed
    assert blind.found.startswith("replay leaves "), "a transfer passes rounding by"


@pytest.mark.parametrize(
    ("check", "changes", "passes"),
    [
        ("fools", {}, True),
        ("fools", {"size": "-epsilon"}, False),
        ("ball", {}, True),
        ("ball", {"size": "1.1 * epsilon"}, False),
        ("repeatable", {"size": "epsilon * torch.rand(())"}, False),
        ("alone", {"size": "epsilon * torch.rand(())"}, False),
        ("needs", {"needs": "logits"}, False),
        ("declaration", {"needs": "luck"}, False),
        ("planted: zero_gradient", {}, True),
    ],
)
def test_a_planted_mistake_of_an_attack_fails_its_check(written, check, changes, passes):
    text = ATTACK.format(**{"source": "", "needs": "gradients", "size": "epsilon"} | changes)
    answer = asked(*written("attacks", text), check, epsilons=[0.25])
    assert answer.passed == passes, str(answer)


def test_an_attack_of_ours_passes_all_and_a_failure_is_the_exit_code(capsys, monkeypatch):
    assert conform.main(["fgs", "--parameters", '{"epsilons": [0.2]}']) == 0
    assert capsys.readouterr().out.endswith("fgs: all checks passed\n")
    monkeypatch.setitem(conform.KINDS, "attacks", lambda *given: iter([("odd", lambda: 1 / 0)]))
    assert conform.main(["fgs", "--parameters", '{"error": 0.5}']) == 1
    assert "FAIL  odd: ZeroDivisionError: division by zero" in capsys.readouterr().out


def test_what_is_no_method_is_one_line(tmp_path):
    with pytest.raises(RedoubtError, match="nobody: no defense and no attack has this name; give the file"):
        conform.found("nobody")
    with pytest.raises(RedoubtError, match=r"none\.py: no such file"):
        conform.found("none.py")
    (tmp_path / "clean.py").write_text("class Defense:\n    pass\n")
    with pytest.raises(RedoubtError, match=r"Redoubt has defenses/clean\.py too; rename it"):
        conform.found(str(tmp_path / "clean.py"))


def test_kinds_are_those_that_have_checks():
    assert {"defenses": _conform_defense.checks, "attacks": _conform_attack.checks} == conform.KINDS
