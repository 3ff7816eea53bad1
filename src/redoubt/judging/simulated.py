"""In how many simulated worlds a claim holds: where it must not, and where the printed numbers are true."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from redoubt.judging.claims import Outcome, decide
from redoubt.judging.evidence import NoNumber
from redoubt.judging.finished import Finished
from redoubt.judging.held import Fit, Held
from redoubt.judging.truth import Key, key, null, printed
from redoubt.judging.worlds import Design, World, shares
from redoubt.layout import published_file
from redoubt.lazily import np
from redoubt.progress import progress
from redoubt.study.addresses import Place
from redoubt.study.catalog import Catalog
from redoubt.study.claims import Decidable, Resolved

VACUOUS, POWERFUL = 0.05, 0.8
"""A claim may hold in this share of null worlds, and should hold in this share of the printed ones."""


def spread(found: Catalog, results: Path) -> Callable[[Place], float | None]:
    """Return a function to the coefficient of variation of a place's real rows; None where there are none."""
    real = Finished(found, results)
    known: dict[Key, float | None] = {}

    def of(place: Place) -> float | None:
        if key(place) not in known:
            try:
                sample = real.sample(place)
                values = np.concatenate([run.values for run in sample.runs.values()]) if sample else np.zeros(1)
                known[key(place)] = (
                    float(values.std() / values.mean()) if len(values) > 1 and values.mean() > 0 else None
                )
            except NoNumber:
                known[key(place)] = None
        return known[key(place)]

    return of


def rows(found: Catalog, results: Path, worlds: int) -> list[Held]:
    """Return what the worlds say of each claim.

    Args:
        found: all that exists at a scale.
        results: folder of its results, whose rows tell how values vary; it need not exist.
        worlds: of each kind, for each claim.
    """
    numbers = printed(found, {name: published_file(name) for name in found.studies})
    return simulated(Design(found, spread(found, results)), numbers, found.claims, worlds, worlds)


def simulated(
    design: Design,
    numbers: Mapping[Key, float],
    claims: Mapping[tuple[str, str], Resolved],
    worlds: int,
    true_worlds: int,
) -> list[Held]:
    """Return what so many null worlds, and worlds of printed numbers, say of claims by study and id."""
    parts = {name: _Part(design, numbers, claim) for name, claim in claims.items()}
    held = {name: part.null(worlds) for name, part in progress(parts.items(), "null worlds")}
    true = dict.fromkeys(parts, 0)
    applies = shares(numbers, [], equal=False)
    for seed in progress(range(true_worlds), "printed worlds"):
        world = World(design, numbers, applies, seed)
        for name, part in parts.items():
            true[name] += bool(part.known) and _holds(part.known, world)
    return [part.row(*name, worlds, held[name], true[name] / true_worlds) for name, part in parts.items()]


class _Part:
    """A claim: those of its checks that can be simulated, and those that are about printed numbers alone."""

    def __init__(self, design: Design, numbers: Mapping[Key, float], claim: Resolved) -> None:
        self.design, self.numbers, self.claim = design, numbers, claim
        ones = [self._one(check) for check in claim.checks]
        pairs = list(zip(claim.checks, ones, strict=True))
        self.checks = [check for check, one in pairs if one.outcome != "not-run"]
        self.tested = [one for one in ones if one.outcome != "not-run" and one.n]
        self.absent = list(dict.fromkeys(one.test for one in ones if one.outcome == "not-run"))
        self.known = [check for check in self.checks if all(key(place) in numbers for place in check.places)]

    def _one(self, check: Decidable) -> Outcome:
        """Return what a check says in a null world."""
        return decide([check], next(self._worlds([check], 1)))[-1].outcomes[0]

    def _worlds(self, checks: Sequence[Decidable], worlds: int) -> Iterator[World]:
        places = [place for check in checks for place in check.places]
        truth = null(checks, self.numbers, self.claim.opposite == "margin")
        applies = shares(self.numbers, places, equal=True)
        return (World(self.design, truth, applies, seed) for seed in range(worlds))

    def null(self, worlds: int) -> float | None:
        """Return the share of null worlds in which the checks hold; None where there are none.

        They hold together only where each alone does: Holm's correction raises p. So they are tried one by one.
        """
        held = 0
        for world in self._worlds(self.checks, worlds if self.checks else 0):
            held += all(_holds([check], world) for check in self.checks) and _holds(self.checks, world)
        return held / worlds if self.checks else None

    def row(self, study: str, claim: str, worlds: int, held: float | None, true: float) -> Held:
        """Return the row of the claim, given the shares of null and of printed worlds in which its checks hold."""
        rest = len(self.checks) - len(self.known)
        reasons = [f"cannot be simulated: {reason}" for reason in self.absent]
        reasons += [f"no numbers are printed for {rest} of {len(self.claim.checks)} checks"] if rest else []
        found = self.design.found
        return Held(
            study=study,
            claim=claim,
            basis=found.basis(study, self.claim),
            scale=found.config.scale,
            worlds=worlds,
            checks=len(self.claim.checks),
            null=held,
            simulated=len(self.known),
            printed=true if self.known else None,
            n=min((outcome.n for outcome in self.tested), default=None),
            runs=min((outcome.runs for outcome in self.tested), default=None),
            fit=_fit(held, true if self.known else None, self.claim.open is not None),
            reason="; ".join(reasons),
        )


def _fit(held: float | None, true: float | None, left_open: bool) -> Fit:
    if left_open:
        return "open"
    if held is None:
        return "not-simulated"
    if held > VACUOUS:
        return "vacuous"
    return "powerless" if true is not None and true < POWERFUL else "fit"


def _holds(checks: Sequence[Decidable], world: World) -> bool:
    return decide(checks, world)[-1].here == "holds"
