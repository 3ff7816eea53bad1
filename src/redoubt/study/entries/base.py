"""Records that travel as JSON, with one spelling.

`dump` leaves out every key that has its default, so a key that is added with a default changes no entry and no digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationError

from redoubt.errors import RedoubtError
from redoubt.records import Strict, explain


class Entry(Strict):
    """A record that travels as JSON."""

    def dump(self) -> dict[str, Any]:
        """Return the entry as JSON data, without the keys that have their default."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    @classmethod
    def parse(cls, value: Any, what: str = "--entry") -> Self:
        """Return JSON data as a record, defaults filled in; an error calls the data `what`.

        Raises:
            RedoubtError: a key is missing, unknown or out of range.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise RedoubtError(f"{what}: expected a mapping of keys, got {type(value).__name__}")
        try:
            return cls.model_validate(dict(value))
        except ValidationError as error:
            raise RedoubtError(f"{what}: {explain(error)}") from None


class Method(Entry):
    """A method by its name, and those of its parameters that differ from their defaults."""

    name: str
    parameters: dict[str, Any] = {}
