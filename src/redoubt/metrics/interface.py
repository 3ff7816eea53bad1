"""What a metric is, and how one is named.

A config file names a metric by its name, or by a mapping of name and parameters. Entries and CSV files hold its
spelling, which can be read back: the name, and in parentheses the parameters that differ from their defaults, such as
`norm(order=l2,relative=true)`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.lazily import np, pd
from redoubt.records import Strict

Kind = Literal["rate", "mean"]
Unit = Literal["percent", "scientific", "plain"]


class Metric(Strict):
    """A metric with its parameters; a subclass defines `KIND` and `values`.

    What it computes depends on the rows alone, so it may be called on any part of them, or on rows drawn again.

    Attributes:
        KIND: rate or mean, which decides the interval and the tolerance of the verdict.
        EMPTY: the reason why it may apply to no row.
        GAIN: whether more of it is more for the attacker.
    """

    KIND: ClassVar[Kind]
    EMPTY: ClassVar[str] = "it applies to no attacked image"
    GAIN: ClassVar[bool] = False

    @property
    def unit(self) -> Unit:
        """How values are printed."""
        return "percent" if self.KIND == "rate" else "plain"

    def applies(self, rows: pd.DataFrame) -> pd.Series:
        """Tell of each row whether it counts."""
        return pd.Series(True, index=rows.index)

    def values(self, rows: pd.DataFrame) -> pd.Series:
        """Return one number per row, of rows that count."""
        raise NotImplementedError

    def summary(self, values: np.ndarray) -> float:
        """Return the metric from the values (n,) of all images."""
        return float(np.mean(values))

    @property
    def averages(self) -> bool:
        """Whether the metric is the mean of its values."""
        return type(self).summary is Metric.summary

    @property
    def spelling(self) -> str:
        """The name, with the parameters that differ from their defaults."""
        given = self.model_dump(exclude_defaults=True)
        texts = (f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items())
        name = type(self).__module__.rpartition(".")[2].replace("_", "-")
        return f"{name}({','.join(texts)})" if given else name


@cache
def read(spelling: str) -> Metric:
    """Return the metric of a spelling.

    Raises:
        RedoubtError: there is no such metric, or it has no such parameter.
    """
    match = re.fullmatch(r"([^()]*)\((.*)\)", spelling)
    name, inside = match.groups() if match else (spelling, "")
    pairs = (part.partition("=") for part in inside.split(",") if part.strip())
    return _metric(name, {key.strip(): _value(text.strip()) for key, _, text in pairs})


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # a word
        return text


def _metric(name: str, parameters: Mapping[str, Any]) -> Metric:
    found: Metric = registry.parameters("metrics", name, dict(parameters))
    return found


def spelt(named: Any) -> str:
    """Return the spelling of a metric that is given by its name, its spelling, or a mapping of name and parameters.

    Raises:
        ValueError: there is no such metric, or it has no such parameter.
    """
    try:
        if not isinstance(named, Mapping):
            return read(str(named)).spelling
        parameters = {key: value for key, value in named.items() if key != "name"}
        return _metric(str(named.get("name", "")), parameters).spelling
    except RedoubtError as error:
        raise ValueError(str(error)) from None


Named = Annotated[str, BeforeValidator(spelt)]
"""The type of a field that names a metric; its value is the spelling."""
