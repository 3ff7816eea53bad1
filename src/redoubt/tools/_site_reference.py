"""Reference pages that are made from code: keys of the configuration, what Python offers, how to cite."""

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from redoubt.study.config import PARTS, ROOTS

FILES = {
    "config": "`config/config.yaml`: what is run, and where data come from",
    "scale": "`config/scales/<scale>.yaml`: how much is run",
    "changes": "`config/scales/<scale>/<study>.yaml`: what a scale changes in one study",
    "looks": "`config/looks.yaml`: how figures draw methods",
    "suites": "`config/suites.yaml`: strong attacks, the same for every study",
}
"""Title of each root file; those of a study are named by their parts."""
PUBLIC = {
    "redoubt.evaluation.evaluate": "How robust is a model",
    "redoubt.evaluation.craft": "One attack",
    "redoubt.attacks._expectation": "Random models",
    "redoubt.evaluation.surrogate": "Adaptive wrappers",
    "redoubt.defenses.interface": "Write a defense",
    "redoubt.attacks.interface": "Write an attack",
    "redoubt.metrics.interface": "Write a metric",
    "redoubt.artifacts.interface": "Write a table or figure",
    "redoubt.probes.interface": "Write a probe",
}
"""Modules whose public classes and functions are the Python interface, and what each is for."""
KEYS = """# Keys of the configuration

Every key of every file, written by `make format` from the records that check them (`redoubt.study.config`). Numbers
may be fractions, such as `8/255`. [config/README.md](../config/README.md) explains how keys work together, and the
words `like`, `vary`, `each`, `use` and `lists`, which keep a study short.
"""
API = """# From Python

Public classes and functions, from their docstrings. [python.md](python.md) shows how they are used. What a user can put
right is raised as `redoubt.errors.RedoubtError`, with a message of one line.
"""
SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Attributes):\n((?:[ ]{4}.*\n|\n)+)", re.MULTILINE)


# -- keys --------------------------------------------------------------------------------------------------------------


def keys() -> str:
    """Return the page of all keys: a section for each file, with a table for each record in it."""
    parts = [KEYS]
    for name, record in ROOTS.items():
        schema = record.model_json_schema(by_alias=True)
        title = FILES.get(name) or f"`config/studies/<study>/{name}.yaml`, a part of a study"
        parts += [f"## {title}\n", _record(schema, "")]
        parts += [_record(own, f"### {name}: {kind}\n\n") for kind, own in schema.get("$defs", {}).items()]
    assert FILES.keys() | PARTS.keys() == ROOTS.keys()
    return "\n".join(parts)


def _record(schema: Mapping[str, Any], title: str) -> str:
    lines = ["| key | what it takes | default | meaning |", "| --- | --- | --- | --- |"]
    for key, field in schema.get("properties", {}).items():
        default = "**required**" if key in schema.get("required", ()) else f"`{_plain(field.get('default'))}`"
        meaning = _plain_text(field.get("description", "")).replace("|", "\\|")
        lines.append(f"| `{key}` | {_kind(field)} | {default} | {meaning} |")
    about = " ".join(_plain_text(schema.get("description", "").split("\n\n")[0]).split())
    return title + (f"{about}\n\n" if about and title else "") + "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


def _plain_text(text: str) -> str:
    """Return a text in which <name> is not taken for HTML."""
    return "".join(
        part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(re.split("(`.*?`)", text))
    )


def _kind(field: Mapping[str, Any]) -> str:
    """Return in words what a key takes, from its JSON schema."""
    if "$ref" in field:
        return f"a {field['$ref'].rpartition('/')[2]}"
    if "enum" in field or "const" in field:
        return " or ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if options := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(dict.fromkeys(_kind(option) for option in options))
    kind = field.get("type", "anything")
    if kind == "array":
        return f"list of: {_kind(field['items'])}" if field.get("items") else "list"
    values = field.get("additionalProperties") or next(iter(field.get("patternProperties", {}).values()), None)
    if kind == "object" and isinstance(values, Mapping):
        return f"by name: {_kind(values)}"
    words = {"object": "mapping", "string": "text", "boolean": "`true` or `false`", "integer": "whole number"}
    return words.get(kind, kind) + _range(field)


def _range(field: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return "".join(f" {sign} {field[name]}" for name, sign in signs.items() if name in field)


# -- Python ------------------------------------------------------------------------------------------------------------


def api() -> str:
    """Return the page of what Python offers."""
    parts = [API]
    for name, title in PUBLIC.items():
        module = importlib.import_module(name)
        shown = name if "._" not in name else name.rpartition(".")[0]
        parts.append(f"## {title}: `{shown}`\n\n{_described(inspect.getdoc(module) or '')}")
        parts += [_member(key, value) for key, value in members(module)]
    return "\n".join(parts)


def members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield the public classes and functions that a module defines, in the order of its text."""
    for key, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if own and not key.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
            yield key, value


def _member(key: str, value: Any) -> str:
    text = f"### {key}\n\n{_signature(key, value)}{_described(inspect.getdoc(value) or '')}"
    if inspect.isclass(value):
        for name, method in vars(value).items():
            call = method.__func__ if isinstance(method, classmethod | staticmethod) else method
            if not name.startswith("_") and inspect.isfunction(call):
                text += f"\n#### {key}.{name}\n\n{_signature(name, call)}{_described(inspect.getdoc(call) or '')}"
    return text


def _signature(key: str, value: Any) -> str:
    """Return the call of a function or class as a block of Python."""
    if inspect.isclass(value) and issubclass(value, Exception):
        return ""
    found = inspect.signature(value)
    given, named = list[str](), False
    for part in found.parameters.values():
        if part.kind is part.KEYWORD_ONLY and not named:
            given, named = [*given, "*"], True
        named = named or part.kind is part.VAR_POSITIONAL
        given += [] if part.name == "self" else [re.sub(r"^([*\w]+): '([^']*)'", r"\1: \2", str(part))]
    result = found.return_annotation
    said = result if isinstance(result, str) else inspect.formatannotation(result)
    arrow = "" if result is found.empty or inspect.isclass(value) else f" -> {said}"
    line = f"{key}({', '.join(given)}){arrow}"
    if len(line) > 90:
        line = f"{key}(\n    " + ",\n    ".join(given) + f",\n){arrow}"
    return f"```python\n{line}\n```\n\n"


def _described(text: str) -> str:
    """Return a docstring as Markdown: its sections are lists, code that it holds is shown as such."""

    def listed(match: re.Match[str]) -> str:
        items = re.split(r"\n(?=    \S)", "\n" + match[2].rstrip())
        lines = [" ".join(item.split()) for item in items if item.strip()]
        if match[1] in ("Args", "Attributes", "Raises"):
            lines = [re.sub(r"^(\*{0,2}\w+):", r"`\1`:", line) for line in lines]
        return f"**{match[1]}**\n\n" + "\n".join(f"- {line}" for line in lines) + "\n\n"

    return SECTION.sub(listed, _plain_text(text) + "\n").rstrip() + "\n"


# -- cite --------------------------------------------------------------------------------------------------------------


def cite(root: Path) -> str:
    """Return the page on how to cite, from CITATION.cff."""
    own = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    entry = f"@software{{redoubt,\n  title = {{{own['title']}}},\n  author = {{{{{_names(own)}}}}},\n"
    entry += f"  version = {{{own['version']}}},\n  license = {{{own['license']}}}\n}}"
    papers = [f"- {_names(paper)} ({paper['year']}). {paper['title']}." for paper in own["references"]]
    return f"""# How to cite

{own["message"]} [CITATION.cff](../CITATION.cff) has the same for programs.

```bibtex
{entry}
```

Name the commit that you ran, and the scale: numbers of different scales are not comparable. Who made
the datasets is on the page [data.md](data.md).

## The papers

{chr(10).join(papers)}
"""


def _names(work: Mapping[str, Any]) -> str:
    names = [one.get("name") or f"{one['given-names']} {one['family-names']}" for one in work["authors"]]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
