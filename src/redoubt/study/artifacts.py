"""Tables, figures and claims of all studies, and what is checked of them before anything runs.

What a plot will draw is known beforehand: its file says it in `cells(parameters)`, one mapping for each row of the CSV
from columns to values. So a claim about a cell that will not be there, and a printed number without a cell, are
mistakes of the config.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel

from redoubt import registry
from redoubt.errors import RedoubtError, shortened
from redoubt.layout import published_file, study_file
from redoubt.metrics import interface as metrics
from redoubt.study.addresses import NUMBER, Address, Place
from redoubt.study.claims import Decidable, Resolved, decidable
from redoubt.study.config import Deviation
from redoubt.study.entries.model import Probe
from redoubt.study.evaluations import Sweep
from redoubt.study.files import Files
from redoubt.study.needs import ANY, Model, Need, Run, Sampled, Swept
from redoubt.study.published import read_published
from redoubt.study.reading import checked, known
from redoubt.study.settings import settings

Cell = dict[str, Any]
LABELS = ("dataset", "network", "method")
"""What every drawn model must be called."""


@dataclass(frozen=True)
class Drawn:
    """A table or figure; `parameters` are an instance of its plot's `Parameters`."""

    kind: Literal["table", "figure"]
    plot: str
    title: str
    caption: str
    parameters: Any

    def asked(self, name: str) -> list[Any]:
        """Return what a function of the plot's file says of the parameters; nothing where the file has none."""
        function: Callable[[Any], list[Any]] = getattr(registry.method("artifacts", self.plot), name, lambda _: [])
        return list(function(self.parameters))


class Artifacts:
    """The artifacts of all studies, by study and id.

    Args:
        files: the config.
        models: by id.
        runs: by model and attack.
        sweep: function that returns what the attack of a run sweeps.
    """

    def __init__(
        self,
        files: Files,
        models: Mapping[str, Model],
        runs: Mapping[tuple[str, str], Run],
        sweep: Callable[[Run], Sweep],
    ) -> None:
        self.files, self.models, self.runs, self.sweep = files, models, runs, sweep
        self.drawn: dict[tuple[str, str], Drawn] = {}
        self._cells: dict[tuple[str, str], list[Cell]] = {}
        for name, study in files.studies.items():
            for key, raw in study.artifacts.items():
                where = f"{study_file(name, 'artifacts')}: artifacts.{key}"
                options = checked("artifacts", raw.plot, raw.parameters, f"{where}.plot", f"{where}.parameters")
                if raw.kind != (kind := registry.method("artifacts", raw.plot).KIND):
                    raise RedoubtError(f"{where}.kind: {raw.kind!r}: a {raw.plot} is a {kind}")
                self.drawn[name, key] = Drawn(raw.kind, raw.plot, raw.title, raw.caption, options)
        for (name, key), drawn in self.drawn.items():
            self._check(name, key, drawn, f"{study_file(name, 'artifacts')}: artifacts.{key}")

    def cells(self, study: str, artifact: str) -> list[Cell]:
        """Return the rows that the CSV of an artifact will have, as far as they are known."""
        if (study, artifact) not in self._cells:
            self._cells[study, artifact] = self.drawn[study, artifact].asked("cells")
        return self._cells[study, artifact]

    def _check(self, study: str, key: str, drawn: Drawn, where: str) -> None:
        needs: list[Need] = list(dict.fromkeys(drawn.asked("needs")))
        for need in needs:
            known(need.model, self.models, f"{where}.parameters")
            if need.attack is not None and (need.model, need.attack) not in self.runs:
                raise RedoubtError(f"{where}: no evaluation runs attack {need.attack!r} on {need.model!r}")
        for artifact in drawn.asked("printed"):
            known(artifact, self.files.studies[study].artifacts, f"{where}.parameters: printed")
        spread = set()
        for cell in self.cells(study, key):
            for column, value in cell.items():
                if isinstance(value, Swept):
                    if column not in self.sweep(self.runs[value.model, value.attack]):
                        raise RedoubtError(f"{where}.parameters: attack {value.attack!r} sweeps no {column!r}")
                    spread.add((Need(value.model, value.attack), column))
        for place, record in _records(drawn.parameters, f"{where}.parameters"):
            if hasattr(record, "where") and hasattr(record, "attack"):
                self._check_where(record, needs, spread, f"{place}.where")
        for model in drawn.asked("models"):
            known(model, self.models, f"{where}.parameters")
        for model in drawn.asked("timed"):
            if not any(_times(probe) for probe in self.models[model].entry.training.probes):
                reason = f"{model!r} is not timed; give its training the probe epoch-time with repetitions"
                raise RedoubtError(f"{where}.parameters: {reason}")
        shown = [self.models[key] for key in dict.fromkeys([*(need.model for need in needs), *drawn.asked("models")])]
        self._check_labels(drawn, shown, where)
        self._check_settings(drawn, shown, where)

    def _check_where(self, record: Any, needs: list[Need], spread: set[tuple[Need, str]], where: str) -> None:
        """Refuse a value that an attack will not sweep, and none where it sweeps several: an image counts once.

        A sweep that is drawn whole, one of `spread`, needs none.
        """
        for need in needs:
            if need.attack is None or need.attack != record.attack:
                continue
            if need.model != getattr(record, "model", need.model):
                continue
            swept = self.sweep(self.runs[need.model, need.attack])
            for column, value in record.where.items():
                if not (values := swept.get(column, [])):
                    reason = f"it sweeps {', '.join(swept)}" if swept else "it sweeps nothing"
                    raise RedoubtError(f"{where}.{column}: attack {need.attack!r} sweeps no {column!r}; {reason}")
                if value not in values:
                    reason = ", ".join(f"{each:g}" for each in values)
                    raise RedoubtError(
                        f"{where}.{column}: {value!r} is not one of {reason}, which {need.attack!r} sweeps"
                    )
            for column, values in swept.items():
                if len(values) > 1 and column not in record.where and (need, column) not in spread:
                    reason = f"attack {need.attack!r} sweeps {column} over {len(values)} values"
                    raise RedoubtError(f"{where}: {reason}; name one, so that an image counts once")

    def _check_settings(self, drawn: Drawn, shown: list[Model], where: str) -> None:
        for path in drawn.asked("settings"):
            if not any(settings(model.entry, [path]) for model in shown):
                raise RedoubtError(f"{where}.parameters: none of its models has a setting {path!r}")

    def _check_labels(self, drawn: Drawn, shown: list[Model], where: str) -> None:
        for model in shown:
            for label in LABELS:
                if label not in model.labels:
                    place = f"{study_file(model.study, 'models')}: models.{model.id}.labels"
                    raise RedoubtError(f"{place}: {label!r} is missing, which {where.rpartition('.')[2]} shows")
        for label in getattr(drawn.parameters, "show", ()):
            if not any(label in model.labels for model in shown):
                raise RedoubtError(f"{where}.parameters.show: none of its models has a label {label!r}")

    # -- claims and printed numbers ------------------------------------------------------------------------------------

    def claims(self) -> dict[tuple[str, str], Resolved]:
        """Return all claims by study and id, with the checks that they stand for; each number will be drawn."""
        result = {}
        for name, study in self.files.studies.items():
            for key, claim in study.claims.items():
                checks: list[Decidable] = []
                for number, check in enumerate(claim.checks):
                    where = f"{study_file(name, 'claims')}: claims.{key}.checks.{number}"
                    try:
                        checks += decidable(check, partial(self.place, name))
                    except RedoubtError as error:
                        raise RedoubtError(f"{where}: {error}") from None
                result[name, key] = Resolved(claim.statement, claim.where, claim.open, tuple(checks), claim.opposite)
        return result

    def place(self, study: str, address: Address, over: str | None = None) -> Place:
        """Return where an address of a study leads; for a trend over a column, several rows.

        Raises:
            RedoubtError: there will be no such number, or there will be several.
        """
        known(address.artifact, self.files.studies[study].artifacts, str(address))
        drawn = self.drawn[study, address.artifact]
        plot = drawn.plot
        names: list[str] = drawn.asked("address") or list(getattr(registry.method("artifacts", plot), "ADDRESS", ()))
        if not names:
            raise RedoubtError(f"{address}: a claim reads no numbers of a {plot}")
        asked = [name for name in names if name not in dict(address.named)]
        further = len(names) == 1 or len(address.values) == len(asked) + 1
        wanted = [*asked, "the column of the number"] if further else asked
        if len(address.values) != len(wanted):
            raise RedoubtError(f"{address}: a {plot} is asked for {', '.join(wanted)}, then name=value")
        where = dict(zip(asked, address.values, strict=False)) | dict(address.named)
        value = NUMBER if wanted == asked else address.values[-1]
        cell = self._find(study, address.artifact, where, value, str(address))
        if over is not None and over not in cell:
            raise RedoubtError(f"{address}: {address.artifact} has no column {over!r}; it has {', '.join(cell)}")
        model = self.models[cell["model"] if "model" in cell else cell["row"]]
        facts = (str(address), study, address.artifact, tuple(where.items()), value, model.id, model.labels["dataset"])
        sampled = self._sampled(study, address, where) if value == NUMBER and over is None else None
        if sampled is None:
            return Place(*facts)
        swept = [(sampled.along, where[sampled.along])] if sampled.along is not None and sampled.along in where else []
        return Place(*facts, sampled.attack, sampled.metric, (*sampled.where.items(), *swept))

    def _sampled(self, study: str, address: Address, where: Mapping[str, Any]) -> Sampled | None:
        """Return what a number is made of, None where its plot does not say so."""
        sources: list[Sampled] = self.drawn[study, address.artifact].asked("samples")
        fitting = [
            each
            for each in sources
            if all(each.cell.get(name) == value for name, value in where.items() if name != each.along)
        ]
        if len(fitting) > 1 or (fitting and fitting[0].along not in (None, *where)):
            keys = [name for name in (*fitting[0].cell, fitting[0].along) if name and name not in where]
            raise RedoubtError(f"{address}: it names several numbers; add one of {', '.join(keys)}")
        return fitting[0] if fitting else None

    def check_declared(self) -> None:
        """Refuse a declared change of cells, and what a table repeats, that no table has."""
        for name, study in self.files.studies.items():
            for number, item in enumerate(study.deviations):
                for pattern in item.cells:
                    if not self._declares(name, item.model_copy(update={"cells": [pattern]})):
                        where = f"{study_file(name, 'ledger')}: deviations.{number}.cells"
                        raise RedoubtError(f"{where}: {pattern!r} is no cell of a table; write artifact/row/column")
            for key, drawn in self.drawn.items():
                if key[0] == name and (other := getattr(drawn.parameters, "repeats", None)) is not None:
                    where = f"{study_file(name, 'artifacts')}: artifacts.{key[1]}.parameters.repeats"
                    known(other, study.artifacts, where)

    def _declares(self, study: str, item: Deviation) -> bool:
        places = [(key[1], cell) for key in self.drawn if key[0] == study for cell in self.cells(*key)]
        return any(
            fnmatchcase(cell["row"], each.row) and fnmatchcase(cell["column"], each.column)
            for artifact, cell in places
            if "verdict" in cell
            for each in item.declared(artifact)
        )

    def check_published(self) -> None:
        """Refuse a printed number that no table will set beside ours."""
        for study in self.files.studies:
            file = published_file(study)
            for (artifact, row, column), printed in read_published(file, self.files.sources).items():
                known(artifact, self.files.studies[study].artifacts, f"{file}: artifact")
                cell = self._find(study, artifact, {"row": row, "column": column}, "published", file)
                metric = cell.get("metric")  # a setting has none
                rate = metric is not None and metrics.read(metric).KIND == "rate"
                if rate and not 0 <= printed.value <= 1:
                    reason = f"{printed.value:g} is no share; is its unit percent?"
                    raise RedoubtError(f"{file}: {artifact}, {row}, {column}: {reason}")

    def _find(self, study: str, artifact: str, asked: Mapping[str, Any], column: str, where: str) -> Cell:
        """Return the first cell of an artifact that has the asked values, and a column.

        Raises:
            RedoubtError: there is none.
        """
        cells = self.cells(study, artifact)
        names = list(cells[0]) if cells else []
        for name in (*asked, column):
            if name not in names:
                raise RedoubtError(f"{where}: {artifact} has no column {name!r}; it has {', '.join(names)}")
        for cell in cells:
            if all(self._agrees(name, cell[name], value) for name, value in asked.items()):
                return cell
        reason = ", ".join(f"{name} = {value}" for name, value in asked.items())
        raise RedoubtError(f"{where}: {artifact} will have no cell where {reason}{self._nearest(cells, asked)}")

    def _agrees(self, column: str, cell: Any, asked: Any) -> bool:
        if isinstance(cell, Swept):
            values = self.sweep(self.runs[cell.model, cell.attack])[column]
            return not values or asked in values or asked in cell.also
        return cell is ANY or cell == asked

    def _nearest(self, cells: list[Cell], asked: Mapping[str, Any]) -> str:
        """Return for a message what stands in the first column that has not the asked value."""
        for name, value in asked.items():
            values = dict.fromkeys(str(cell[name]) for cell in cells if isinstance(cell[name], str | int | float))
            if values and str(value) not in values:
                return f"; its {name}s are {shortened(list(values), 12)}"
        return ""


def _records(value: Any, place: str) -> Iterator[tuple[str, BaseModel]]:
    """Yield a record and all records within it, with their places."""
    if isinstance(value, BaseModel):
        yield place, value
        for name in type(value).model_fields:
            yield from _records(getattr(value, name), f"{place}.{name}")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _records(part, f"{place}.{number}")


def _times(probe: Probe) -> bool:
    """Return whether a probe of a training takes its steps beside normal ones."""
    return probe.probe == "epoch-time" and probe.parameters.get("repetitions", 0) > 0
