"""What drawing an artifact is given and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redoubt.errors import RedoubtError
from redoubt.lazily import lazy, np, pd
from redoubt.rows import read_rows, read_shared
from redoubt.study.entries.artifact import ArtifactEntry

pq = lazy("pyarrow.parquet")


@dataclass(frozen=True)
class Drawing:
    """A table (`data` and `text`) or a figure (`data` and `figure`)."""

    data: pd.DataFrame
    text: str | None = None
    figure: Any = None


class Inputs:
    """The finished data of an artifact's entry, by model and attack."""

    def __init__(self, entry: ArtifactEntry) -> None:
        self._by_need = {(need.model, need.attack): need for need in entry.inputs}

    def missing(self, model: str, attack: str | None = None) -> str | None:
        """Return why a model's history (attack None) or its rows under an attack do not exist, or None."""
        return self._by_need[model, attack].missing

    def rows(self, model: str, attack: str) -> pd.DataFrame:
        """Return the rows of an attack on a model, all seeds concatenated, with a column `seed`."""
        files = self._by_need[model, attack].files
        frames = [read_rows(file) for file in files]
        frame = pd.concat([part.assign(seed=_seed(file)) for part, file in zip(frames, files, strict=True)])
        frame.attrs = frames[0].attrs
        return frame

    def shared(self, model: str, attack: str) -> dict[int, dict[str, np.ndarray]]:
        """Return the tensors that all rows of an attack on a model share, by seed and name."""
        return {_seed(file): read_shared(file) for file in self._by_need[model, attack].files}

    def history(self, model: str) -> pd.DataFrame:
        """Return the history of a model's training, all seeds concatenated, with a column `seed`."""
        files = [file for file in self._by_need[model, None].files if file.endswith(".csv")]
        try:
            frames = [pd.read_csv(file).assign(seed=_seed(file)) for file in files]
        except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise RedoubtError(f"{files[0]}: no readable history ({error}); train the model again") from None
        return pd.concat(frames, ignore_index=True)

    def trace(self, model: str) -> pd.DataFrame:
        """Return what probes measured in a model's trainings: seed, epoch, step, probe, measure, value."""
        files = [file for file in self._by_need[model, None].files if file.endswith(".parquet")]
        try:
            tables = [pq.read_table(file, page_checksum_verification=True) for file in files]
        except (OSError, ValueError) as error:
            raise RedoubtError(f"{files[0]}: no readable trace ({error}); train the model again") from None
        frames = [table.to_pandas().assign(seed=_seed(file)) for table, file in zip(tables, files, strict=True)]
        return pd.concat(frames, ignore_index=True)

    def times(self, model: str) -> pd.DataFrame:
        """Return what the probe epoch-time measured side by side: seed, index, seconds, seconds_plain.

        Raises:
            RedoubtError: the model's training was not timed beside normal training.
        """
        wide = self.trace(model).pivot(index=["seed", "epoch"], columns="measure", values="value").reset_index()
        if not {"step_seconds", "normal_step_seconds"} <= set(wide):
            raise RedoubtError(f"{model}: its training was not timed; give it the probe epoch-time with repetitions")
        times = wide[["seed", "step_seconds", "normal_step_seconds"]].dropna()
        times = times.set_axis(["seed", "seconds", "seconds_plain"], axis="columns")
        return times.assign(index=times.groupby("seed").cumcount())

    def curves(self, model: str) -> pd.DataFrame:
        """Return history and trace together: a row for each seed and epoch, a column for each measure of the trace."""
        wide = self.trace(model).pivot(index=["seed", "epoch"], columns="measure", values="value")
        return self.history(model).merge(wide.reset_index(), "outer", on=["seed", "epoch"])


def _seed(file: str) -> int:
    return int(file.split("/seed-")[1].split("/")[0])
