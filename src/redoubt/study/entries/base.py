"""Records that travel as JSON, with one spelling.

`dump` leaves out every key that has its default, so a key that is added with a default changes no entry and no digest.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel

from redoubt.records import Strict, typed


def differing(record: BaseModel) -> dict[str, Any]:
    """Return a record as JSON data, without the keys that have their default."""
    return record.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class Entry(Strict):
    """A record that travels as JSON."""

    def dump(self) -> dict[str, Any]:
        """Return the entry as JSON data, without the keys that have their default."""
        return differing(self)

    @classmethod
    def parse(cls, value: Any, what: str = "--entry") -> Self:
        """Return JSON data as a record, defaults filled in; an error calls the data `what`.

        Raises:
            RedoubtError: a key is missing, unknown or out of range.
        """
        return value if isinstance(value, cls) else typed(cls, value, what)


class Method(Entry):
    """A method by its name, and those of its parameters that differ from their defaults."""

    name: str
    parameters: dict[str, Any] = {}
