"""APGD: gradient steps with momentum whose length halves, and which return to the best point, when they stop helping.

Source: Croce and Hein (ICML 2020), section 3, algorithm 1 and equations 2 to 4; section 4 for the DLR loss (equation
6) and its targeted form (equation 7); section 5 for targets and restarts, as in AutoAttack. Deviation: starts are
uniform in the ball, and the first is the image itself unless `random_start`; an image that is fooled leaves, and is
an example for larger epsilons too. No image of a random model leaves: a draw may be lucky, and another point fools more
of them; the one with the highest mean margin over its judges is kept.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from redoubt.attacks import _losses as losses
from redoubt.attacks import interface, pgd
from redoubt.attacks._counting import Counted
from redoubt.attacks._expectation import Expectation
from redoubt.attacks._geometry import like
from redoubt.attacks._hinge import Rows
from redoubt.attacks._sweeping import Found, Swept, sweep
from redoubt.errors import RedoubtError
from redoubt.lazily import torch
from redoubt.records import Count

NEEDS = "gradients"
THREAT = "l-infinity or l2 ball of radius epsilon"
COST = "2 x steps + 1 passes for each start and target, fewer for images that are fooled early"
ENGINES = ("redoubt",)
SWEEP = {"epsilon": "epsilons"}

MOMENTUM, ENOUGH = 0.75, 0.75  # alpha and rho of the paper
PERIODS = (0.22, 0.03, 0.06)  # first share of the steps between checkpoints, what it falls by, and the least
TINY = 1e-12

Name = Literal["cross-entropy", "dlr", "log-odds", "margin"]


class Parameters(Swept):
    """Parameters of APGD; epsilon in units of the attacked space."""

    norm: Literal["linf", "l2"] = Field("linf", description="norm of the ball and of a step")
    steps: Count = Field(100, description="gradient steps of one start")
    loss: Name = Field("dlr", description="whose gradient is followed; dlr does not change when logits are scaled")
    targets: Annotated[int, Field(ge=0)] = Field(
        0, description="number of wrong classes, the likeliest first, that are aimed at in turn; 0: untargeted"
    )
    restarts: Count = Field(1, description="starts, for each target where there are any")
    random_start: bool = Field(True, description="the first start too is drawn from the ball")
    stop: bool = Field(
        True,
        description="an image leaves once it is fooled; else, and of a random model, every start takes all its steps",
    )


def dlr(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the difference-of-logits ratio (N,), equation 6: above zero where misclassified."""
    ranked = logits.topk(3, dim=1).values
    return losses.margin(logits, labels) / (ranked[:, 0] - ranked[:, 2] + TINY)


def dlr_towards(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the targeted ratio (N,), equation 7: above zero where the target leads the label."""
    ranked = logits.topk(4, dim=1).values
    lead = logits.gather(1, torch.stack([targets, labels], 1))
    return (lead[:, 0] - lead[:, 1]) / (ranked[:, 0] - 0.5 * (ranked[:, 2] + ranked[:, 3]) + TINY)


class Aim(losses.Goal):
    """Away from the true class, by a loss of its own or towards a class; both are given for each image.

    Its `labels` are (B, 2): the true class, and the class that is aimed at, -1 for none.

    Args:
        loss: whose gradient is followed.
        aimed: the second column is used.
    """

    def __init__(self, loss: Name, aimed: bool) -> None:
        self.name, self.aimed = loss, aimed

    def reached(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Tell of each image (B,) whether it is misclassified, whatever it was aimed at."""
        return logits.argmax(1) != labels[:, 0]

    def height(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return what is ascended (B,)."""
        label, target = labels.unbind(1)
        if not self.aimed:
            return dlr(logits, label) if self.name == "dlr" else losses.LOSSES[self.name](logits, label)
        if self.name == "dlr":
            return dlr_towards(logits, label, target)
        if self.name == "margin":
            return (logits.gather(1, target[:, None]) - logits.gather(1, label[:, None]))[:, 0]
        return -losses.LOSSES[self.name](logits, target)

    def margin(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the highest other logit less the label's (B,), whatever is aimed at."""
        return losses.margin(logits, labels[:, 0])


def checkpoints(steps: int) -> list[int]:
    """Return the numbers of the steps after which progress is judged, equations 3 and 4's w_1, w_2..., ascending."""
    period, fall, least = PERIODS
    shares = [0.0, period]
    while shares[-1] < 1.0:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - fall, least))
    return sorted({math.ceil(share * steps - 1e-9) for share in shares[1:] if share <= 1.0})


@dataclass
class Climb(Rows):
    """The images that still climb; every tensor has a row for each."""

    rows: torch.Tensor  # places among the images of the start
    points: torch.Tensor  # (A, ...)
    before: torch.Tensor  # (A, ...) the points one step earlier
    gradient: torch.Tensor  # (A, ...) at the points
    heights: torch.Tensor  # (A,) of the points
    top: torch.Tensor  # (A, ...) highest point so far
    top_gradient: torch.Tensor  # (A, ...) there
    top_heights: torch.Tensor  # (A,)
    lengths: torch.Tensor  # (A,) of a step
    rises: torch.Tensor  # (A,) steps since the last checkpoint that led upwards
    judged: torch.Tensor  # (A,) highest height at the last checkpoint
    halved: torch.Tensor  # (A,) bool: steps were shortened there
    pairs: torch.Tensor  # (A, 2) true classes and those aimed at
    clean: torch.Tensor  # (A, ...) centres of the balls
    radii: torch.Tensor  # (A,) of the balls

    def move(self, points: torch.Tensor, heights: torch.Tensor, gradient: torch.Tensor) -> None:
        """Go on to points (A, ...) of known heights (A,) and gradients (A, ...)."""
        self.rises = self.rises + (heights > self.heights)
        self.before, self.points, self.heights, self.gradient = self.points, points, heights, gradient
        higher = heights > self.top_heights
        self.top = torch.where(like(higher, points), points, self.top)
        self.top_gradient = torch.where(like(higher, points), gradient, self.top_gradient)
        self.top_heights = torch.where(higher, heights, self.top_heights)

    def judge(self, passed: int) -> None:
        """Halve the steps of images that made too little of the last `passed` ones; these return to their top."""
        stuck = self.rises < ENOUGH * passed
        same = ~self.halved & (self.top_heights <= self.judged)
        self.halved = stuck | same
        self.lengths = torch.where(self.halved, self.lengths / 2.0, self.lengths)
        back = like(self.halved, self.points)
        self.points = torch.where(back, self.top, self.points)
        self.gradient = torch.where(back, self.top_gradient, self.gradient)
        self.heights = torch.where(self.halved, self.top_heights, self.heights)
        self.judged, self.rises = self.top_heights, torch.zeros_like(self.rises)


def ahead(climb: Climb, norm: str, bounds: tuple[float, float] | None, first: bool) -> torch.Tensor:
    """Return the next points (A, ...), in the balls and the bounds: equation 2, without momentum at `first`."""
    moved = climb.points + like(climb.lengths, climb.points) * pgd.step_along(climb.gradient, norm)
    moved = pgd.project(moved, climb.clean, climb.radii, norm, bounds)
    if first:
        return moved
    moved = climb.points + MOMENTUM * (moved - climb.points) + (1.0 - MOMENTUM) * (climb.points - climb.before)
    return pgd.project(moved, climb.clean, climb.radii, norm, bounds)


def ascend(
    network: Counted,
    inputs: torch.Tensor,
    pairs: torch.Tensor,
    starts: torch.Tensor,
    radii: torch.Tensor,
    goal: Aim,
    *,
    steps: int,
    norm: str = "linf",
    bounds: tuple[float, float] | None = None,
    stop: bool = True,
) -> pgd.Found:
    """Climb from `starts` within the balls around `inputs`.

    Args:
        network: inputs (B, ...) to logits (B, classes), for these images.
        inputs: (B, ...) clean, centres of the balls; B > 0.
        pairs: (B, 2) true classes and those aimed at.
        starts: (B, ...) inside the balls and the bounds.
        radii: (B,) of the balls.
        goal: what is climbed and when an image is fooled.
        steps: gradient steps.
        norm: linf or l2.
        bounds: range of an input element, or None.
        stop: an image leaves when it is fooled.

    Returns:
        The best points seen: fooling before not fooling, then by height, or of a random model by its mean margin.
    """
    nothing, lowest, zero = torch.zeros_like(pairs[:, 0]), torch.full_like(radii, -math.inf), torch.zeros_like(starts)
    none = nothing.bool()
    found = pgd.Found(starts.clone(), none.clone(), lowest.clone(), nothing.clone())
    rows = torch.arange(len(inputs), device=inputs.device)
    climb = Climb(
        rows,
        starts,
        starts,
        zero,
        lowest,
        starts,
        zero,
        lowest,
        2.0 * radii,
        nothing,
        lowest,
        none,
        pairs,
        inputs,
        radii,
    )
    points, marks, last = starts, checkpoints(steps), 0
    for iteration in range(steps + 1):
        asked = network.of(climb.rows)
        if iteration < steps:
            look, gradient = goal.ascent(asked, points, climb.pairs)
        else:
            with torch.no_grad():
                look = goal.look(asked, points, climb.pairs)
        note(found, climb.rows, points, look.reached, look.rank)
        if iteration == steps:
            break
        climb.move(points, look.height, gradient)
        if iteration == 0:
            climb.judged, climb.rises = look.height, torch.zeros_like(climb.rises)
        if iteration in marks:
            climb.judge(iteration - last)
            last = iteration
        active = asked.left() >= (2 if iteration + 1 < steps else 1)
        left = (active & ~(found.fooled[climb.rows] & stop)).nonzero()[:, 0]
        if not len(left):
            break
        climb = climb.keep(left) if len(left) < len(climb.rows) else climb
        found.iterations[climb.rows] += 1
        points = ahead(climb, norm, bounds, iteration == 0)
    return found


def note(
    found: pgd.Found, rows: torch.Tensor, points: torch.Tensor, fooled: torch.Tensor, heights: torch.Tensor
) -> None:
    """Take points (A, ...) of the images at `rows` (A,) into what was found, where they are better."""
    old = pgd.Found(found.points[rows], found.fooled[rows], found.heights[rows], found.iterations[rows])
    wins = pgd.better(replace(old, fooled=fooled, heights=heights), old)
    found.points[rows] = torch.where(like(wins, points), points, old.points)
    found.heights[rows] = torch.where(wins, heights, old.heights)
    found.fooled[rows] = fooled | old.fooled


def attack(
    network: Callable,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    places: list[int],
    parameters: Parameters,
    context: interface.Context,
) -> Found:
    """Attack one batch at one epsilon, with restarts and targets.

    Args:
        network: inputs (B, ...) to logits (B, classes).
        inputs: (B, ...) clean, B > 0.
        labels: (B,) true classes.
        epsilon: radius of the ball.
        places: of the images among all.
        parameters: see `Parameters`.
        context: bounds and draws.

    Returns:
        The best points seen, in the ball and the bounds; an image that is wrong already stays as it is, unless the
        model is random.

    Raises:
        RedoubtError: the loss compares more classes than the model has.
    """
    asked = Counted.begin(network, inputs, parameters.queries)
    goal, radii = Aim(parameters.loss, parameters.targets > 0), inputs.new_full((len(inputs),), epsilon)
    with torch.no_grad():
        look = losses.Goal("margin").look(asked, inputs, labels)
    check_classes("apgd", goal, look.logits.shape[1])
    ranked = look.logits.scatter(1, labels[:, None], -math.inf).argsort(1, descending=True)[:, :-1]
    random = isinstance(network, Expectation)
    wrong, lowest = look.reached & (not random), torch.full_like(radii, -math.inf)
    best = pgd.Found(inputs.clone(), look.reached, look.rank if random else lowest, torch.zeros_like(labels))
    norm, bounds, stop = parameters.norm, context.bounds, parameters.stop and not random
    aims = min(parameters.targets, ranked.shape[1]) or 1
    for restart, rank in itertools.product(range(parameters.restarts), range(aims)):
        rows = (~(wrong | best.fooled & stop) & (asked.left() >= 2)).nonzero()[:, 0]
        if not len(rows):
            break
        clean, own, starts = inputs[rows], radii[rows], inputs[rows]
        if restart or parameters.random_start:
            mine = [places[row] for row in rows.tolist()]
            starts = pgd.random_start(clean, own, norm, context, mine, ("apgd", epsilon, restart, rank))
            starts = pgd.project(starts, clean, own, norm, bounds)
        pairs = torch.stack([labels[rows], ranked[rows, rank]], 1)
        part, steps = asked.of(rows), parameters.steps
        new = ascend(part, clean, pairs, starts, own, goal, steps=steps, norm=norm, bounds=bounds, stop=stop)
        note(best, rows, new.points, new.fooled, new.heights)
        best.iterations[rows] += new.iterations
    return Found(best.points, best.fooled, best.iterations, asked.spent)


def check_classes(name: str, goal: Aim, classes: int) -> None:
    """Refuse, for the attack `name`, a loss that compares more classes than there are."""
    needed = (4 if goal.aimed else 3) if goal.name == "dlr" else 2
    if classes < needed:
        raise RedoubtError(f"{name}: loss: dlr compares {needed} classes here, the model has {classes}; use margin")


def run(
    network: Callable, batches: interface.Batches, parameters: Parameters, context: interface.Context
) -> Iterator[interface.Crafted]:
    """Yield APGD examples, all images of one epsilon before the next."""
    find = partial(attack, network, parameters=parameters, context=context)
    yield from sweep(batches, parameters.epsilons, find, parameters.stop and not isinstance(network, Expectation))
