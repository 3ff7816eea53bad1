"""Strict records, and their errors as one line: the base of config files, of entries and of methods' parameters."""

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from redoubt.errors import RedoubtError

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Record = TypeVar("Record", bound=BaseModel)
_LONGEST = 200  # characters of a value in an error


class Strict(BaseModel):
    """A record that knows all of its keys and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


def explain(error: ValidationError) -> str:
    """Return the first problem of a validation error as `key: what was expected`."""
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"] if not isinstance(part, str) or not part.startswith("function")]
    where = ".".join(part if part.isprintable() else repr(part) for part in parts)
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if first["type"] == "missing":
        return f"{where}: this key is required"
    message = first["msg"].removeprefix("Value error, ")
    given = reprlib.repr(first["input"])
    given = given if len(given) <= _LONGEST else f"{given[:_LONGEST]}…"
    given = "" if isinstance(first["input"], dict) or message.startswith(given) else f"{given}: "
    return f"{where}: {given}{message}" if where else message


def typed(kind: type[Record], value: Any, what: str) -> Record:
    """Return `value` checked as a record of a kind; an error calls it `what`.

    Raises:
        RedoubtError: no mapping, or a key that is missing, unknown or out of range.
    """
    if not isinstance(value, Mapping):
        raise RedoubtError(f"{what}: expected a mapping of keys, got {type(value).__name__}")
    try:
        return kind.model_validate(dict(value))
    except ValidationError as error:
        raise RedoubtError(f"{what}: {explain(error)}") from None
