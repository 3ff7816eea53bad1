"""Any attack as one call, for use outside of the workflow.

result = craft("pgd", model, images, labels, epsilons=[0.1, 0.3], steps=40)
result.rows.groupby("epsilon").success.mean()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from redoubt import registry
from redoubt.attacks._expectation import Expectation
from redoubt.attacks._finite import Finite
from redoubt.attacks.interface import Batches, Context, score
from redoubt.errors import RedoubtError
from redoubt.evaluation.checks import check_images, check_mode, check_model
from redoubt.evaluation.engine import implementation, kind_of


@dataclass(frozen=True)
class Result:
    """Adversarial images (R, C, H, W) and a row of facts for each, or for each time that it is scored.

    R is N times the values of a sweep.

    `rows.attrs["nonfinite_gradients"]` is the share of gradients that were not finite, see `redoubt.attacks`.
    """

    images: torch.Tensor
    rows: pd.DataFrame


def craft(
    attack: str,
    network: Callable,
    images: torch.Tensor,
    labels: torch.Tensor,
    generator: torch.Generator | None = None,
    *,
    engine: str = "redoubt",
    reads: pd.DataFrame | None = None,
    batch_size: int = 256,
    scorings: int = 1,
    **parameters: Any,
) -> Result:
    """Attack a model and return the adversarial images with their facts.

    Args:
        attack: name of an attack, as in the config: pgd, deepfool, carlini-wagner...
        network: images (B, C, H, W) in [0, 1] to logits (B, classes), in eval mode; left as it is. A random one is
            given as `Expectation(network, draws)`: that mean is attacked, and single draws of the network are scored.
        images: (N, C, H, W) float32 in [0, 1]; gradients that they ask for are left alone.
        labels: (N,) int64 true classes.
        generator: source of all draws; seed 0 when None.
        engine: whose implementation, one of the attack's ENGINES.
        reads: rows of an earlier attack, for those that build on one.
        batch_size: images at a time.
        scorings: times that every crafted image is scored, each with separate draws.
        **parameters: of the attack, in units of [0, 1] images; its `Parameters` lists them.

    Returns:
        Images and rows; columns: index, label, clean_label, adversarial_label, success, l2, linf, x_l2, x_linf, loss
        (cross-entropy at the true label), the attack's own facts (epsilon, iterations, queries...), and repetition
        where there are several.

    Raises:
        RedoubtError: unknown attack, engine or parameter; images, labels or a model that are not as above; a module in
            training mode; gradients or logits that are not finite.
    """
    kind = kind_of(attack)
    run = implementation(kind, attack, engine)
    taken = registry.method(kind, attack).Parameters.model_fields
    known = [field.alias or name for name, field in taken.items()]
    if odd := [name for name in parameters if name not in {*known, *taken}]:
        raise RedoubtError(f"{odd[0]}: unknown key; {attack} has {', '.join(known)}")
    options = registry.parameters(kind, attack, parameters)
    check_images(images, labels)
    check_mode(attack, network)
    images, labels = (part.detach().clone() if part.is_inference() else part.detach() for part in (images, labels))
    check_model(attack, network, images, labels, options)
    positions = torch.arange(len(labels))
    context = Context(generator or torch.Generator().manual_seed(0), (0.0, 1.0), reads, positions)
    scored = network.network if isinstance(network, Expectation) else network
    finite = Finite(scored, context.bounds)
    victim: Callable = replace(network, network=finite) if isinstance(network, Expectation) else finite
    victim = victim if kind == "attacks" else network
    frames, crafted = [], []
    for part in run(victim, Batches(images, labels, batch_size), options, context):
        own = slice(part.start, part.start + len(part.inputs))
        for repetition in range(scorings):
            facts = {"index": positions[own], **score(scored, part, images[own], labels[own])}
            del facts["logits"]
            facts |= {"repetition": repetition} if scorings > 1 else {}
            frames.append({name: fact.cpu().numpy() if torch.is_tensor(fact) else fact for name, fact in facts.items()})
        crafted.append(part.inputs)
    rows = pd.concat([pd.DataFrame(frame) for frame in frames], ignore_index=True)
    if kind == "attacks":
        rows.attrs["nonfinite_gradients"] = finite.share_checked()
    return Result(torch.cat(crafted), rows)
