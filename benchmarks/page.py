"""Rows of measured speed: sides of a comparison, and the page that they are written to."""

from __future__ import annotations

import json
import platform
import statistics
from pathlib import Path

import torch

from redoubt.probes._turns import ratio


def compared(what: str, times: dict[str, list[float]], base: str, facts: dict[str, str]) -> list[dict]:
    """Return a row for each side of a comparison; ratios are medians of those to `base` measured beside it."""
    return [
        {
            "what": f"{what}, {name}",
            "value": 1000 * statistics.median(taken),
            "unit": "ms",
            "ratio": ratio(taken, times[base]),
            "facts": facts.get(name, ""),
        }
        for name, taken in times.items()
    ]


def machine(device: str, threads: int) -> str:
    """Return on what rows are measured, in words."""
    return f"{device}, {threads} threads, {platform.machine()}, torch {torch.__version__}"


def write(rows: list[dict], where: str, folder: Path, name: str) -> None:
    """Print rows as a Markdown table, and write them to `name`.md and `name`.json."""
    lines = [f"# Speed on {where}", "", "| what | value | unit | ratio | facts |", "| --- | ---: | --- | ---: | --- |"]
    lines += [f"| {r['what']} | {r['value']:.4g} | {r['unit']} | {r['ratio']:.2f} | {r['facts']} |" for r in rows]
    text = "\n".join(lines) + "\n"
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    (folder / f"{name}.json").write_text(json.dumps({"where": where, "rows": rows}, indent=1) + "\n")
