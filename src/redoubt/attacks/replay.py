"""Replay: score this model on adversarial images, or with universal perturbations, that were made on other models.

Source: DeepDefense, section 4.2, which shows one model the examples of figure 3 made for the others; PeerNets, figures
4 and 8, which apply universal perturbations to chosen images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from redoubt.attacks import interface, universal
from redoubt.errors import RedoubtError
from redoubt.lazily import lazy, torch
from redoubt.records import Strict
from redoubt.rows import rho_of

numpy = lazy("numpy")

NEEDS = "examples"
THREAT = "that of the attack that made the examples"
COST = "none; the forward pass that scores"
ENGINES = ("redoubt",)
SWEEP = None  # that of the attacks that it reads


class Parameters(Strict):
    """It has none; the evaluation's `reads` names what is replayed."""


def joint(parameters: Parameters) -> bool:
    """Tell that the images are attacked together: the sources follow each other."""
    return True


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield the stored examples of each source, in the order in which they are read.

    A source without images that holds universal perturbations has them added to this model's own images, in the space
    that they were made in, one radius after the other; those of a single source are passed on.
    """
    if context.reads is not None and "image" not in context.reads and context.reads.attrs.get("shared"):
        yield from _universal(batches, context)
        return
    if context.reads is None or "image" not in context.reads:
        raise RedoubtError(
            "replay: needs an evaluation whose `reads` names attacks with `keep_images: true`, or universal ones"
        )
    assert context.positions is not None, "stored examples are those of known images"
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


def _universal(batches: interface.Batches, context: interface.Context) -> Iterator[interface.Crafted]:
    sources = context.reads.attrs["shared"]
    for source, perturbations in sources.items():
        for name, v in perturbations.items():
            if not name.startswith("rho-") or v.shape != tuple(batches.images.shape[1:]):
                size = "x".join(map(str, v.shape))
                raise RedoubtError(f"replay: {source} holds {name}, {size}: no universal perturbation of these images")
        for name in sorted(perturbations, key=rho_of):
            v = torch.from_numpy(perturbations[name])
            facts = {"source": source, "rho": rho_of(name)}
            for start, inputs, _ in batches:
                moved = universal.apply(inputs, v.to(inputs.device), context.bounds)
                yield interface.Crafted(start, moved, facts, {name: v} if len(sources) == 1 else {})
