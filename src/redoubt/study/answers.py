"""Which strong attacks answer a cell of a table, or a line of a figure: a suite, by the columns that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from redoubt.errors import RedoubtError
from redoubt.layout import study_file
from redoubt.study.config import Study
from redoubt.study.entries.artifact import Answered
from redoubt.study.needs import Run, Sampled
from redoubt.study.suites import Sweep, worst


class Answers:
    """The answers of a study.

    Args:
        name: of the study.
        study: with its suites written out.
        runs: all evaluations.
        sweep: function that returns what a run sweeps.
    """

    def __init__(
        self, name: str, study: Study, runs: Mapping[tuple[str, str], Run], sweep: Callable[[Run], Sweep]
    ) -> None:
        self.study, self.runs, self.sweep = study, runs, sweep
        self.place = f"{study_file(name, 'attacks')}: adaptive"

    def answered(self, artifact: str, sampled: Sampled) -> Answered | None:
        """Return which rows of which attack answer a number, or all numbers along a sweep; None where none does.

        Raises:
            RedoubtError: the attack has no rows at the number's place in a sweep, or does not sweep the same.
        """
        row, column = str(sampled.cell.get("row")), str(sampled.cell.get("column"))
        if sampled.attack is None:
            return None
        for key, answer in self.study.adaptive.items():
            patterns = [pattern for pattern in answer.columns if fnmatchcase(f"{artifact}/{column}", pattern)]
            if patterns and (run := self.runs.get((sampled.model, worst(key)))) is not None:
                where = self._where(run, sampled, f"{self.place}.{key}.columns: {patterns[0]!r}")
                return Answered(row=row, column=column, attack=run.attack, where=where)
        return None

    def _where(self, run: Run, sampled: Sampled, where: str) -> dict[str, float]:
        """Return the values of a sweep at which a number is: those of its column, or the only ones of its attack."""
        assert sampled.attack is not None
        own, result = self.sweep(self.runs[sampled.model, sampled.attack]), {}
        values_of = self.sweep(run)
        if sampled.along is not None and sampled.along not in values_of:
            raise RedoubtError(f"{where}: {run.attack!r} sweeps no {sampled.along}, along which the line is drawn")
        for name, values in values_of.items():
            if name == sampled.along:
                continue
            usual = own.get(name, [])
            given = sampled.where.get(name, usual[0] if len(usual) == 1 else None)
            if given is None and len(values) == 1:
                given = values[0]
            if given not in values:
                listed = ", ".join(f"{value:g}" for value in values)
                raise RedoubtError(f"{where}: {sampled.cell['column']!r} is at no {name} of {listed}")
            result[name] = float(given)
        return result

    def check(self, columns: list[str]) -> None:
        """Refuse an answer to columns that nothing has, given those of tables and figures as artifact/column.

        Raises:
            RedoubtError: naming the pattern.
        """
        for key, answer in self.study.adaptive.items():
            for pattern in answer.columns:
                if not any(fnmatchcase(column, pattern) for column in columns):
                    raise RedoubtError(f"{self.place}.{key}.columns: {pattern!r} is no column of a table or figure")
