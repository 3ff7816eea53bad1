"""Checks of an attack: what it leaves alone, what it returns, and what misleads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch

from redoubt import registry
from redoubt.evaluation.craft import Result, craft
from redoubt.records import Strict
from redoubt.tools import _conform_digits as tried
from redoubt.tools._conform_digits import Gate
from redoubt.training.resume import Resume

ATTACKED = 20
CLOSE = 1e-5
NEEDS = ("gradients", "logits", "labels")


def checks(name: str, parameters: Strict, network: str) -> Iterator[tuple[str, Callable[[], Gate]]]:
    """Yield name and function of each check."""
    own = _Tried(name, parameters, network)
    yield "documentation", partial(tried.documented, registry.method("attacks", name))
    for check in (
        own.declaration,
        own.fools,
        own.alone,
        own.examples,
        own.ball,
        own.repeatable,
        own.batches,
        own.needs,
    ):
        yield check.__name__, check
    for plant in (zero_gradient, saturated):
        yield f"planted: {plant.__name__}", partial(own.planted, plant)


def zero_gradient(model: Callable) -> Callable:
    """Return a model that is the same but lets no gradient through."""
    return lambda images: model(images).detach() + 0.0 * images.flatten(1).sum(1, keepdim=True)


def saturated(model: Callable) -> Callable:
    """Return a model with logits a thousand times as large: its cross-entropy is zero in float32."""
    return lambda images: 1000.0 * model(images)


class _Tried:
    """An attack with its parameters, tried on a small network that is not defended."""

    def __init__(self, name: str, parameters: Strict, network: str) -> None:
        self.name, self.network = name, network
        self.module = registry.method("attacks", name)
        self.options: dict[str, Any] = parameters.model_dump(exclude_unset=True)
        self.inputs, self.labels = (part[:ATTACKED] for part in tried.images("test"))
        self.model, self.result = cache(self._model), cache(self._result)

    def _model(self) -> Any:
        clean = registry.parameters("defenses", "clean", {})
        model = tried.built(tried.entry("clean", clean, self.network))
        defense = registry.method("defenses", "clean").Defense(clean, model.network)
        tried.trainer(model, defense, Resume(None), False).run()
        return model.eval().requires_grad_(False).requires_grad_()

    def _craft(self, model: Callable, **more: Any) -> Result:
        generator = torch.Generator().manual_seed(3)
        return craft(self.name, model, self.inputs, self.labels, generator, **more, **self.options)

    def _result(self) -> Result:
        return self._craft(self.model())

    def _left(self, result: Result) -> float:
        return float((result.rows["adversarial_label"] == result.rows["label"]).mean())

    def declaration(self) -> Gate:
        """Judge whether NEEDS and ENGINES are such as the catalog knows."""
        needs, engines = self.module.NEEDS, self.module.ENGINES
        return Gate(
            "declaration",
            needs in NEEDS and "redoubt" in engines,
            f"needs {needs}, engines {', '.join(engines)}",
            f"NEEDS is one of {', '.join(NEEDS)}; ENGINES has redoubt",
        )

    def fools(self) -> Gate:
        """Judge whether an undefended network loses accuracy."""
        rows = self.result().rows
        before, after = float((rows["clean_label"] == rows["label"]).mean()), self._left(self.result())
        return Gate(
            "fools",
            after < before - 0.2,
            f"accuracy of an undefended network falls from {before:.0%} to {after:.0%}",
            "try --parameters that suit digits, such as an epsilon of 0.2; look at the sign of the step",
        )

    def alone(self) -> Gate:
        """Judge whether model, images and torch's global generator stay as they are."""
        model, images = self.model(), self.inputs.clone()
        before, draws = tried.state(model), torch.random.get_rng_state()
        self._craft(model)
        kept = {
            "the model": tried.state(model) == before,
            "the images": torch.equal(images, self.inputs),
            "torch's global generator": torch.equal(draws, torch.random.get_rng_state()),
        }
        changed = [what for what, same in kept.items() if not same]
        return Gate(
            "alone",
            not changed,
            f"changed: {', '.join(changed) or 'nothing'}",
            "take gradients with torch.autograd.grad, work on copies, and draw from `context` alone",
        )

    def examples(self) -> Gate:
        """Judge whether examples lie in [0, 1], and rows say what the model says of them."""
        result = self.result()
        images, rows = result.images, result.rows
        again = self.model()(images).argmax(1)
        right = rows["adversarial_label"].tolist() == again.tolist()
        honest = bool((rows["success"] == (rows["adversarial_label"] != rows["clean_label"])).all())
        low, high = float(images.min()), float(images.max())
        return Gate(
            "examples",
            right and honest and images.dtype == torch.float32 and low >= 0 and high <= 1,
            f"{images.dtype} in [{low:.3g}, {high:.3g}]; rows {'say' if right and honest else 'do not say'} what the "
            "model says of them",
            "yield each example as it was scored, clipped to `context.bounds`",
        )

    def ball(self) -> Gate:
        """Judge whether no example leaves the ball that its row names."""
        rows = self.result().rows
        if "epsilon" not in rows:
            return Gate("ball", True, "not judged: rows have no column epsilon", "")
        norm = self.options.get("norm", "linf")
        change = (self.result().images - self.inputs.repeat(len(rows) // ATTACKED, 1, 1, 1)).flatten(1).double()
        sizes = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
        excess = float((sizes - torch.tensor(rows["epsilon"].to_numpy())).max())
        return Gate(
            "ball",
            excess <= CLOSE,
            f"examples exceed the {norm} ball by at most {max(excess, 0.0):.2g}",
            "project after every step, and clip to the box after that",
        )

    def repeatable(self) -> Gate:
        """Judge whether the same seed gives the same bytes."""
        torch.rand(7)
        other = self._result()
        same = torch.equal(self.result().images, other.images) and self.result().rows.equals(other.rows)
        return Gate(
            "repeatable",
            same,
            f"the same seed gives {'the same' if same else 'other'} examples",
            "draw from `context` alone",
        )

    def batches(self) -> Gate:
        """Judge whether the number of images at a time changes nothing."""
        one, other = self.result().images, self._craft(self.model(), batch_size=3).images
        moved = float(((one - other).abs() > CLOSE).float().mean())
        return Gate(
            "batches",
            moved < 1e-3,
            f"{moved:.1%} of pixels differ where 3 images are attacked at a time",
            "draw for each image by its generator (`context.generators`), and let no image see another",
        )

    def needs(self) -> Gate:
        """Judge whether an attack that says that it needs no gradient works without."""
        if self.module.NEEDS == "gradients":
            return Gate("needs", True, "it says that it needs gradients", "")
        left, usual = self._left(self._craft(zero_gradient(self.model()))), self._left(self.result())
        return Gate(
            "needs",
            left <= usual + 0.05,
            f"without a gradient it leaves {left:.0%}, with one {usual:.0%}",
            'say NEEDS = "gradients", or use none',
        )

    def planted(self, plant: Callable[[Callable], Callable]) -> Gate:
        """Tell how far a planted defense misleads the attack; it must report no success that is none."""
        model = plant(self.model())
        result = self._craft(model)
        wrong = int((model(result.images).argmax(1).numpy() != result.rows["adversarial_label"].to_numpy()).sum())
        return Gate(
            f"planted: {plant.__name__}",
            wrong == 0,
            f"it leaves {self._left(result):.0%} of a model that only looks robust; {wrong} rows are wrong",
            "report success for examples that were scored alone",
        )
