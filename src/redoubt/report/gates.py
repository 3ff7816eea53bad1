"""What red gates change in the report: where there is one, the word robust stands in quotation marks."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redoubt.judging.results import GATES, gates

WORD = re.compile(r"(?<![“\w-])(robust\w*)", re.IGNORECASE)


def red(entry: Mapping[str, Any], results: Path) -> dict[str, list[str]]:
    """Return by study what is red, as model and check: rows of its tables of gates that are drawn.

    Args:
        entry: `Catalog.report_entry()`.
        results: folder of the scale's results.
    """
    found: dict[str, list[str]] = {}
    for name, study in entry["studies"].items():
        tables = [artifact["id"] for artifact in study["artifacts"] if artifact["plot"] == GATES]
        rows = [row for table in tables for row in gates(results, name, table)]
        found[name] = [f"{row.label}: {row.check}" for row in rows if row.gate == "red"]
    return found


def quoted(value: Any) -> Any:
    """Return texts in lists and mappings with quotation marks around robust and what is derived from it.

    Addresses and anchors have no such word, apart from files of data, which stay as they are.
    """
    if isinstance(value, str):
        return value if value.startswith("data:") else WORD.sub(r"“\1”", value)
    if isinstance(value, dict):
        return {
            key: part if key in ("id", "anchor", "commands", "pdf", "pdf_file", "study") else quoted(part)
            for key, part in value.items()
        }
    return [quoted(part) for part in value] if isinstance(value, list) else value
