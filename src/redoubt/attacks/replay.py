"""Replay: score this model on adversarial images that were made on other models.

Source: DeepDefense, section 4.2, which shows one model the examples of figure 3 made for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from redoubt.errors import RedoubtError
from redoubt.lazily import lazy
from redoubt.schema import Strict

torch = lazy("torch")
numpy = lazy("numpy")
interface = lazy("redoubt.attacks.interface")

NEEDS = "examples"
THREAT = "that of the attack that made the examples"
COST = "none; the forward pass that scores"
ENGINES = ("redoubt",)


class Parameters(Strict):
    """It has none; the evaluation's `reads` names the stored examples."""


def run(network: Callable, batches, parameters: Parameters, context) -> Iterator[interface.Crafted]:
    """Yield the stored examples of each source, in the order in which they are read."""
    if context.reads is None or "image" not in context.reads:
        raise RedoubtError("replay: needs an evaluation whose `reads` names attacks with `keep_images: true`")
    for source, rows in context.reads.groupby("model", sort=False):
        if rows["index"].tolist() != context.positions.tolist():
            raise RedoubtError(
                f"replay: the {len(rows)} stored examples of {source} are not of the {len(batches)} images that are "
                "attacked; give both attacks the same `select`"
            )
        for start, inputs, _ in batches:
            stored = rows.iloc[start : start + len(inputs)]["image"]
            images = numpy.stack([numpy.asarray(image, dtype="float32") for image in stored])
            examples = torch.from_numpy(images).view_as(inputs).to(inputs.device)
            yield interface.Crafted(start, examples, {"source": source})
