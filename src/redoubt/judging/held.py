"""In what share of simulated worlds each claim holds: `config/worlds/<study>.csv`, which `make worlds` writes.

Simulating takes minutes, so a report shows these files; a row says by its `basis` of what claim it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from redoubt.judging.tables import read_records
from redoubt.layout import worlds_file
from redoubt.records import Strict

Fit = Literal["fit", "vacuous", "powerless", "open", "not-simulated"]


class Held(Strict):
    """What the worlds say of a claim; its fields are the columns of the file, in their order.

    Attributes:
        basis: digest of what was simulated, `Catalog.basis`; where it differs, the claim has changed since.
        scale: whose numbers of images and runs were taken.
        worlds: of each kind.
        checks: how many it has.
        null: share of null worlds in which its checks hold, what it leaves open aside; None where none is simulated.
        simulated: checks whose numbers are all printed.
        printed: share of worlds of the printed numbers in which these checks hold; None where there are none.
        n: images behind its least check, None where none is tested.
        runs: of the model that has fewest.
        fit: `vacuous` where it holds in too many null worlds, `powerless` where in too few printed ones; `open` where
            it says what it leaves open, so that it never holds.
        reason: why something is not simulated.
    """

    study: str
    claim: str
    basis: str
    scale: str
    worlds: int
    checks: int
    null: float | None = None
    simulated: int
    printed: float | None = None
    n: int | None = None
    runs: int | None = None
    fit: Fit
    reason: str = ""

    @property
    def shares(self) -> dict[str, str]:
        """The shares of null and of printed worlds as they are printed."""
        found = {"null": self.null, "printed": self.printed}
        return {name: "—" if share is None else f"{100 * share:.1f} %" for name, share in found.items()}


def read(root: Path, studies: Iterable[str]) -> list[Held]:
    """Return what is known of the claims of some studies; nothing of a study without a file.

    Raises:
        RedoubtError: a file is broken.
    """
    files = [root / worlds_file(study) for study in studies]
    return [row for file in files if file.is_file() for row in read_records(file, Held)]
