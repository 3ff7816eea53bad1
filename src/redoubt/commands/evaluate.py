"""What strong attacks leave of a model of yours, and what speaks against the number.

  redoubt evaluate --model net.py:Net --weights net.pt --data images.npz --threat linf --epsilon 8/255

`redoubt.evaluate` in Python does the same and explains more (docs/python.md).
"""

from argparse import ArgumentParser, Namespace

from redoubt.commands import _model
from redoubt.errors import storing


def add(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    _model.add(parser)
    parser.add_argument("--threat", default="linf", help="norm of the ball, linf or l2; linf by default")
    parser.add_argument("--epsilon", type=_model.number, default=8 / 255, help="its radius on images in [0, 1]; 8/255")
    parser.add_argument("--queries", type=int, default=2000, help="passes of an image at most, for each attack")
    parser.add_argument("--attacks", nargs="+", help="some of apgd, apgd-targeted and square; all by default")


def run(options: Namespace) -> int:
    """Evaluate and print; rows go to a file where one is asked for."""
    import redoubt

    network, images, labels = _model.load(options)
    given = {"attacks": options.attacks} if options.attacks else {}
    found = redoubt.evaluate(
        network,
        images,
        labels,
        options.threat,
        options.epsilon,
        queries=options.queries,
        batch_size=options.batch_size,
        seed=options.seed,
        **given,
    )
    print(found)
    if options.out is not None:
        with storing(options.out):
            found.rows.to_csv(options.out, index=False)
    return 0
