"""Checks of a defense: its declaration, its training, its predictions, and attacks on what it has trained."""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from redoubt import registry
from redoubt.defenses.interface import Batch, Moment, Setting
from redoubt.evaluation.craft import craft
from redoubt.evaluation.evaluate import Evaluation, evaluate
from redoubt.judging import gates
from redoubt.models import weights
from redoubt.networks._random import without_noise
from redoubt.records import Strict
from redoubt.tools import _conform_digits as tried
from redoubt.tools._conform_digits import FEW, Gate
from redoubt.training.resume import Resume

EPSILON = 0.1
QUERIES = 300
ATTACKED = 50
CLOSE = 1e-4
PGD: dict[str, Any] = {"epsilons": [EPSILON], "steps": 20, "relative_step_size": 0.1, "loss": "log-odds"}


def checks(name: str, parameters: Strict, network: str) -> Iterator[tuple[str, Callable[[], Gate]]]:
    """Yield name and function of each check."""
    module = registry.method("defenses", name)
    own = _Tried(name, parameters, network)
    yield "documentation", partial(tried.documented, module)
    yield "declaration", partial(_declaration, module)
    for check in (own.learns, own.repeatable, own.resumable, own.loss, own.inputs, own.draws, own.batches, own.files):
        yield check.__name__, check
    found = cache(own.evaluation)
    for gate in gates.CHECKS:
        yield gate, partial(_of, found, gate)
    yield "planted adversaries", lambda: own.adversaries(found().accuracy)


def _of(found: Callable[[], Evaluation], check: str) -> Gate:
    gate = found().gates[check]
    return Gate(check, gate.gate != "red", f"{gate.gate}, {gate.numbers()[0]}", gates.CHECKS[check].meaning)


def _declaration(module: Any) -> Gate:
    declared = module.DECLARES
    unknown = set(declared.networks or ()) - set(registry.names("networks"))
    change = list(inspect.signature(module.change).parameters) if hasattr(module, "change") else None
    right = change in (None, ["parameters", "network", "shape", "classes"])
    return Gate(
        "declaration",
        not unknown and declared.changes == (change is not None) and right,
        f"changes: {declared.changes}, {'a' if change else 'no'} function change; unknown networks: {len(unknown)}",
        "set DECLARES.changes where the file has change(parameters, network, shape, classes); name networks that exist",
    )


class _Tried:
    """A defense with its parameters, tried on a small network."""

    def __init__(self, name: str, parameters: Strict, network: str) -> None:
        self.name, self.parameters, self.network = name, parameters, network
        self.module = registry.method("defenses", name)
        self.declared = self.module.DECLARES
        self.trained = cache(self._trained)
        self.undefended = cache(self._undefended)

    def _undefended(self) -> Any:
        clean = registry.parameters("defenses", "clean", {})
        model = tried.built(tried.entry("clean", clean, self.network))
        tried.trainer(model, self._begun(model, "clean", clean), Resume(None), False).run()
        return model.eval()

    def _begun(self, model: Any, name: str, parameters: Strict) -> Any:
        defense = registry.method("defenses", name).Defense(parameters, model.network)
        torch.manual_seed(2)
        where = torch.device("cpu")
        setting = Setting(
            model.preprocessing, tried.SHAPE, tried.CLASSES, tried.SCHEDULE, tried.IMAGES, tried.steps(), where
        )
        defense.begin(setting)
        return defense

    def _started(self) -> tuple[Any, Any]:
        model = tried.built(tried.entry(self.name, self.parameters, self.network))
        if self.declared.pretrained:
            state = self.undefended().network.state_dict()
            adopt = getattr(self.module, "adopt", torch.nn.Module.load_state_dict)
            adopt(model.network, {key: tensor.clone() for key, tensor in state.items()})
        return model, self._begun(model, self.name, self.parameters)

    def _run(self, resume: Resume, stop: int | None = None) -> tuple[Any, Any]:
        model, defense = self._started()
        if stop is not None:
            _stopping(defense, stop)
        trainer = tried.trainer(model, defense, resume, self.declared.pretrained)
        trainer.run()
        inputs, _ = tried.images("train")
        defense.finish(lambda: iter(inputs.split(33)))
        return model.eval(), defense

    def _trained(self) -> tuple[Any, Any]:
        return self._run(Resume(None))

    def learns(self) -> Gate:
        """Judge whether training ends with finite weights and more than chance on its own images."""
        model, _ = self.trained()
        inputs, labels = tried.images("train")
        finite = all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
        share = float((model(inputs).argmax(1) == labels).float().mean())
        return Gate(
            "learns",
            finite and share > 2 / tried.CLASSES,
            f"{share:.0%} of its training images are right after {tried.steps()} steps",
            "try --parameters that suit digits; look at the sign and the scale of the loss",
        )

    def repeatable(self) -> Gate:
        """Judge whether a second training gives the same bytes."""
        same = tried.state(self.trained()[0].network) == tried.state(self._trained()[0].network)
        return Gate(
            "repeatable",
            same,
            f"a second training gives {'the same' if same else 'other'} bytes",
            "draw from torch's global generator alone, and keep nothing between trainings in the module",
        )

    def resumable(self) -> Gate:
        """Judge whether a training that was killed midway ends with the same bytes."""
        with tempfile.TemporaryDirectory() as folder:
            with contextlib.suppress(Stop):
                self._run(Resume(Path(folder), every=0.0), stop=tried.steps() // 2)
            model, _ = self._run(Resume(Path(folder), every=0.0))
        same = tried.state(model.network) == tried.state(self.trained()[0].network)
        return Gate(
            "resumable",
            same,
            f"a training that was killed midway ends with {'the same' if same else 'other'} bytes",
            "return from `state` all tensors that steps change beside those of the network, and seed nothing yourself",
        )

    def loss(self) -> Gate:
        """Judge whether the loss is a finite scalar that reaches all weights, and leaves its inputs as they are."""
        model, defense = self._started()
        inputs, labels = (part[:8] for part in tried.images("train"))
        before = inputs.clone()
        found, logits = defense.loss(Batch(inputs, labels, torch.arange(8)), Moment(0, 0, 10, tried.IMAGES))
        found.backward()
        without = [
            key for key, weight in model.network.named_parameters() if weight.requires_grad and weight.grad is None
        ]
        right = found.dim() == 0 and bool(found.isfinite()) and logits.shape == (8, tried.CLASSES)
        return Gate(
            "loss",
            right and not without and torch.equal(before, inputs),
            f"shape {tuple(found.shape)}, {found.detach().mean():.3g}, {len(without)} weights without a gradient",
            "return a finite scalar and logits (B, classes); freeze what is not trained with requires_grad_(False)",
        )

    def inputs(self) -> Gate:
        """Judge whether what is trained on has the shape of the images, which stay as they are."""
        _, defense = self._started()
        inputs, labels = tried.images("train")
        before = inputs.clone()
        found = defense.training_inputs(inputs, labels, lambda steps, title: steps)
        return Gate(
            "inputs",
            found.shape == inputs.shape and torch.equal(before, inputs),
            f"training_inputs gives {tuple(found.shape)} of {tuple(inputs.shape)}",
            "return a tensor of the same shape, and change nothing in place",
        )

    def draws(self) -> Gate:
        """Judge whether predictions draw when, and only when, the declaration says so."""
        network, (inputs, _) = self.trained()[0].network, tried.images("test")
        copies = inputs[:1].repeat(2, 1, 1, 1)
        with torch.no_grad():
            (one, two), again = network(copies), network(copies)[0]
        near = CLOSE * one.abs().max()
        kind = "never" if (one - again).abs().max() <= near else "call" if (one - two).abs().max() <= near else "image"
        return Gate(
            "draws",
            kind == self.declared.draws,
            f"predictions draw: {kind}; declared: {self.declared.draws}",
            "correct DECLARES.draws",
        )

    def batches(self) -> Gate:
        """Judge whether a prediction depends on its batch when, and only when, the declaration says so."""
        network, (inputs, _) = self.trained()[0].network, tried.images("test")
        with torch.no_grad(), without_noise(network) if self.declared.draws != "never" else torch.no_grad():
            whole = network(inputs)
            alone = torch.cat([network(part) for part in inputs.split(33)])
        depends = bool((whole - alone).abs().max() > CLOSE * whole.abs().max())
        return Gate(
            "batches",
            depends == self.declared.batch_dependent,
            f"predictions {'depend' if depends else 'do not depend'} on the other images of a batch",
            "correct DECLARES.batch_dependent",
        )

    def files(self) -> Gate:
        """Judge whether a model that is built again and filled from its file predicts the same."""
        model, (inputs, _) = self.trained()[0], tried.images("test")
        fresh = tried.built(tried.entry(self.name, self.parameters, self.network))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            path.write_bytes(weights.encoded(model.network, path))
            weights.load(fresh.network, path)
        with torch.no_grad():
            predictions = []
            for each in (model, fresh):
                torch.manual_seed(5)
                predictions.append(each.eval()(inputs))
        same = torch.equal(*predictions)
        return Gate(
            "files",
            same,
            f"a model from its file predicts {'the same' if same else 'something else'}",
            "keep all that predictions need in parameters and buffers of the network that `change` returns",
        )

    def evaluation(self) -> Evaluation:
        """Return what strong attacks leave of the trained model, and the gates."""
        inputs, labels = (part[:ATTACKED] for part in tried.images("test"))
        return evaluate(self.trained()[0], inputs, labels, epsilon=EPSILON, queries=QUERIES)

    def adversaries(self, left: float) -> Gate:
        """Judge whether attacks that break planted defenses find more than the battery, which leaves the share `left`.

        They are a transfer of PGD from the undefended network, differences of logits, and PGD on the log-odds.
        """
        model, (inputs, labels) = self.trained()[0], (part[:ATTACKED] for part in tried.images("test"))
        stored = craft("pgd", self.undefended(), inputs, labels, **PGD, stop=False).images.flatten(1).numpy()
        reads = pd.DataFrame({"model": "source", "index": range(len(inputs)), "image": list(stored)})
        asked: dict[str, dict[str, Any]] = {
            "replay": {"reads": reads},
            "finite-difference": {"epsilons": [EPSILON], "steps": 5, "group": 8},
            "pgd": PGD,
        }
        shares = {}
        for name, options in asked.items():
            rows = craft(name, model, inputs, labels, **options).rows
            shares[name] = float((rows["adversarial_label"] == rows["label"]).mean())
        worst = min(shares, key=shares.__getitem__)
        return Gate(
            "planted adversaries",
            shares[worst] >= left - max(FEW, 1 / ATTACKED),
            f"{worst} leaves {shares[worst]:.0%}, strong attacks leave {left:.0%}",
            "an attack that breaks planted defenses is stronger here: gradients are masked; attack what masks them",
        )


def _stopping(defense: Any, stop: int) -> None:
    """Have a defense fail after some steps."""
    left, step = iter(range(stop)), defense.step

    def counted(*given: Any) -> Any:
        if next(left, None) is None:
            raise Stop
        return step(*given)

    defense.step = counted


class Stop(Exception):
    """A training is killed on purpose."""
