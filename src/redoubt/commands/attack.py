"""Run one attack on a model of yours, and print the accuracy that it leaves.

  redoubt attack pgd 'epsilons=[2/255,8/255]' steps=40 --model net.py:Net --weights net.pt --data images.npz

docs/attacks.md lists attacks and their parameters. Values are JSON, in which a
number may be a fraction, or words.
"""

import json
import re
from argparse import ArgumentParser, Namespace
from typing import Any

from redoubt.commands import _model
from redoubt.errors import RedoubtError, storing
from redoubt.study.fractions import FRACTION, fraction


def add(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("attack", help="name of an attack, such as pgd, deepfool or square")
    parser.add_argument("parameters", nargs="*", metavar="KEY=VALUE", help="its parameters, for images in [0, 1]")
    _model.add(parser)


def run(options: Namespace) -> int:
    """Attack and print; rows go to a file where one is asked for."""
    from redoubt import registry
    from redoubt.evaluation import memory
    from redoubt.evaluation.craft import craft
    from redoubt.lazily import torch

    given = dict(map(parameter, options.parameters))
    registry.method("attacks", options.attack)
    network, images, labels = _model.load(options)
    size = options.batch_size or memory.fitting(network, images)

    def rows(size: int) -> Any:
        generator = torch.Generator().manual_seed(options.seed)
        return craft(options.attack, network, images, labels, generator, batch_size=size, **given).rows

    found, _ = memory.shrinking(rows, size)
    right = found["adversarial_label"] == found["label"]
    swept = [name for name in ("epsilon", "rho", "pixels") if name in found and found[name].nunique() > 1]
    for value, part in right.groupby(found[swept[0]]) if swept else [("", right)]:
        where = f" at {swept[0]} {value:g}" if swept else ""
        print(f"{options.attack}: accuracy {part.mean():.4f}{where}, {len(part)} images")
    if options.out is not None:
        with storing(options.out):
            found.to_csv(options.out, index=False)
    return 0


def parameter(text: str) -> tuple[str, Any]:
    """Return key and value of KEY=VALUE.

    Raises:
        RedoubtError: there is no =.
    """
    from redoubt.registry import spelt

    key, equals, value = text.partition("=")
    if not equals:
        raise RedoubtError(f"{text!r}: KEY=VALUE is expected, such as steps=40")
    try:
        return spelt(key), json.loads(re.sub(FRACTION, lambda found: str(fraction(found[0])), value))
    except ValueError:
        return spelt(key), value
