"""Write what is derived from the code: JSON schemas, the page of all keys, and a page for each kind of method.

There is a schema for each kind of config file, with which editors complete and check the YAML, and one for
results.json; tests keep the files in step with the code.
"""

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from pydantic import BaseModel

from redoubt import registry
from redoubt.errors import cli
from redoubt.files import write_text
from redoubt.judging import gates
from redoubt.judging.results import Results
from redoubt.study.config import ROOTS
from redoubt.study.entries.adaptive import WRAPPERS
from redoubt.study.expand import GROUP, GROUPED, LISTS, SECTIONS
from redoubt.study.fractions import FRACTION
from redoubt.tools._site_reference import keys

FOLDER = Path("workflow/schemas")
ATTACKS = """# Attacks

Every attack of Redoubt, written by `make format` from the modules in `src/redoubt/attacks/`. An attack sees a
model as a callable from inputs to logits. Inputs are images in [0, 1] for `space: pixels`, and what the network is
given after preprocessing for `space: preprocessed`; epsilons, radii and step sizes are in the same units. Examples
are made on the model that they are scored on, unless an evaluation names another (`crafted_on`). In a study's file
an attack is an entry under `attacks`; in Python, one call:

```python
from redoubt.evaluation.craft import craft

result = craft("pgd", model, images, labels, epsilons=[0.1, 0.3], steps=40)
result.rows.groupby("epsilon").success.mean()  # one row per image and epsilon; result.images has the images
```

`success` says that the prediction changed; accuracy under attack is the mean of `adversarial_label == label`.

How random models are attacked and scored is on the page [random-models.md](random-models.md). In Python:
`Expectation(model, draws=20)` of `redoubt.evaluation.craft` in place of the model.

## Adaptive wrappers

A defense names in its `DECLARES` the wrappers by which an attack follows it (`redoubt.study.entries.adaptive`), or says
why there is none. Each is a few keys of an attack's entry; in Python they are the classes of
`redoubt.evaluation.surrogate`. Crafting sees the wrapped model, and scores are those of the model itself.
[planted.md](planted.md) has for each a defense against which the attack fails without it.

| wrapper | keys | what crafting follows |
| --- | --- | --- |
{wrappers}

## Gates

Accuracy under an attack says something only where attacks rank as they must. The probe `gates` tries small attacks on
a model, and the table `gates` of a study judges them (gates.csv, one row for each model and check), as
`redoubt.evaluate` does: each check is green, red or not-run, with its number. Two attacks are compared on the same
images, so that what chance explains is not red. In a study with a red gate the report puts robust, and what is derived
from it, in quotation marks.

| check | red means |
| --- | --- |
{gates}

## Beside other libraries

`make referee` runs attacks beside those of adv-lib and torchattacks, on the same model and images, with at most 2 000
queries of an image. Optimality is AttackBench's, the share of what the best of all of them reaches.

| file | what it says |
| --- | --- |
| [referee.md](../benchmarks/results/referee.md) | both tables, and how they were measured |
| [referee.csv](../benchmarks/results/referee.csv) | minimum norm: optimality, queries and speed of each side |
| [referee-balls.csv](../benchmarks/results/referee-balls.csv) | in balls: images that both fool, one alone, neither |

## All attacks

| attack | threat model | needs | cost per image | engines |
| --- | --- | --- | --- | --- |
"""
DEFENSES = """# Defenses

Every defense of Redoubt, written by `make format` from the modules in `src/redoubt/defenses/`. In a study's file a
defense is named by a model under `models`, with `parameters` from the tables below; training schedules belong to the
model, not to the defense. Contract tests measure what a defense declares.

| defense | what it is | declares |
| --- | --- | --- |
"""
PROBES = """# Probes

Every probe of Redoubt, written by `make format` from the modules in `src/redoubt/probes/`. A probe measures and changes
nothing. In a study's file a model asks for probes of its training under `training: {probes: [...]}`; probes of finished
models are entries under `attacks`, with `probe:` in place of `attack:`.

| probe | what it measures | of |
| --- | --- | --- |
"""
METRICS = """# Metrics

Every metric of Redoubt, written by `make format` from the modules in `src/redoubt/metrics/`. A plot names a metric by
its name, or by a mapping of its name and parameters: `metric: {name: norm, order: l2, relative: true}`. CSV files hold
`norm(order=l2,relative=true)`, with the parameters that differ from their defaults.

| metric | what it is |
| --- | --- |
"""
NETWORKS = """# Networks

Every network of Redoubt, written by `make format` from the modules in `src/redoubt/networks/`. A model names a network
by its name, or by a mapping of its name and parameters: `network: {name: mlp, width: 0.2}`. A network of yours is
a file of Python ([own-study.md](own-study.md#a-model-of-your-own)).

| network | what it is |
| --- | --- |
"""
ARTIFACTS = """# Tables and figures

Every kind of table and figure, written by `make format` from the modules in `src/redoubt/artifacts/`. An entry under
`artifacts` of a study has its title, its caption, and the parameters below under the name of the kind.

| plot | what it shows | it is a |
| --- | --- | --- |
"""
USUAL = {("draws", "never"), ("predicts", "draw")}
FLAGS: dict[str | tuple[str, str], str] = {
    ("draws", "call"): "draws once a call",
    ("draws", "image"): "draws for every image",
    ("predicts", "mean"): "predicts by the mean softmax of several draws",
    "batch_dependent": "a prediction depends on the other images of its batch",
    "pretrained": "must start from another model",
    "networks": "fits only",
    "changes": "changes the network",
    "adaptive": "followed by",
}


def schemas() -> dict[str, str]:
    """Return file names and texts of all schemas."""
    texts = {}
    for name, record in ROOTS.items():
        schema = _numbers(record.model_json_schema(by_alias=True))
        if name in GROUPED:
            schema = _lists(schema)
        for section in SECTIONS.get(name, ()):
            _language(schema, schema["properties"][section])
        if name == "artifacts":
            _plots(schema)
        texts[f"{name}.schema.json"] = _text(schema)
    return texts | {"results.schema.json": _text(Results.model_json_schema(mode="serialization"))}


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _numbers(schema: Any) -> Any:
    """Return a schema that takes a fraction, or a name of `vary`, for a number."""
    if isinstance(schema, list):
        return [_numbers(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _numbers(part) for key, part in schema.items()}
    if (kind := schema.get("type")) in ("number", "integer"):
        result |= {"type": [kind, "string"], "pattern": rf"^({FRACTION}|\{{[a-z0-9_]+\}})$"}
    return result


def _lists(schema: Any) -> Any:
    """Return a schema that takes `$name` of a group for a list."""
    if isinstance(schema, list):
        return [_lists(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _lists(part) for key, part in schema.items()}
    return result | {"type": ["array", "string"], "pattern": GROUP} if schema.get("type") == "array" else result


def _language(schema: dict[str, Any], section: dict[str, Any]) -> None:
    """Let the entries of a section say `like` and `vary`; one that is like another needs no key else."""
    (entry,) = section.pop("patternProperties").values()
    section["additionalProperties"] = entry
    own = schema["$defs"][entry["$ref"].rpartition("/")[2]]
    own["properties"] |= {
        "like": {"type": "string", "description": "id of an entry of this file that it starts from"},
        "vary": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": ["number", "string", "array"]}, "minItems": 1},
            "description": "name: values; one entry for each combination, with {name} filled in, in its id too",
        },
    }
    kinds = [kind for value in own["properties"].values() for kind in (value, *value.get("anyOf", ()))]
    for part in [kind["$ref"] for kind in kinds if "$ref" in kind]:
        schema["$defs"][part.rpartition("/")[2]].pop("required", None)  # its other keys may be those of `like`
    needed = {key: own.pop(key) for key in ("required", "oneOf") if key in own}
    own["anyOf"] = [{"required": ["like"]}, needed]


def _plots(schema: dict[str, Any]) -> None:
    """Let artifacts have their parameters under the name of their plot, and the file have named lists."""
    description = "lists by name; $name stands for one, {use: name} for its items with {names} filled in"
    lists = {"type": "object", "additionalProperties": {"type": "array"}, "description": description}
    schema["properties"][LISTS] = lists
    own = schema["$defs"]["Artifact"]
    for plot in registry.names("artifacts"):
        own["properties"][plot] = {
            "type": "object",
            "description": "its parameters, if this plot draws it",
        }
        own["anyOf"].append({"required": ["title", "caption", plot]})


def _attack(method: ModuleType) -> list[str]:
    return [method.THREAT, method.NEEDS, method.COST, ", ".join(method.ENGINES)]


def _defense(method: ModuleType) -> list[str]:
    declared = dataclasses.asdict(method.DECLARES).items()
    words = [_flag(name, value) for name, value in declared if value and (name, value) not in USUAL]
    return [_first_line(method), "; ".join(words)]


def _flag(name: str, value: object) -> str:
    if name == "adaptive" and isinstance(value, str):
        return f"followed by {value}"
    if (found := FLAGS.get((name, value) if isinstance(value, str) else name)) is None:
        found = name.replace("_", " ")
    return found if value is True or isinstance(value, str) else f"{found} {_listed(value)}"


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _probe(method: ModuleType) -> list[str]:
    return [_first_line(method), "a training" if hasattr(method, "measure") else "a finished model"]


def _told(method: ModuleType) -> list[str]:
    return [_first_line(method)]


def _plot(method: ModuleType) -> list[str]:
    return [_first_line(method), method.KIND]


def _first_line(method: ModuleType) -> str:
    return (method.__doc__ or "").strip().split("\n")[0]


def _wrappers() -> str:
    """Return the rows of the table of adaptive wrappers."""
    rows = []
    for name, wrapper in WRAPPERS.items():
        keys = f"`{json.dumps(wrapper.keys)[1:-1]}`".replace('"', "") if wrapper.keys else "–"
        rows.append(f"| {name} | {keys} | {wrapper.follows} |")
    return "\n".join(rows)


def _gates() -> str:
    """Return the rows of the table of gates."""
    return "\n".join(f"| {name} | {check.meaning} |" for name, check in gates.CHECKS.items())


PAGES: dict[str, tuple[str, Callable[[ModuleType], list[str]]]] = {
    "attacks": (ATTACKS.replace("{wrappers}", _wrappers()).replace("{gates}", _gates()), _attack),
    "defenses": (DEFENSES, _defense),
    "probes": (PROBES, _probe),
    "metrics": (METRICS, _told),
    "networks": (NETWORKS, _told),
    "artifacts": (ARTIFACTS, _plot),
}


def _choices(annotation: object) -> str:
    literal = re.search(r"Literal\[(.*?)\]", str(annotation))
    return " \\| ".join(re.findall(r"'([^']+)'", literal[1])) if literal else ""


def _parameters(record: type[BaseModel]) -> list[str]:
    lines = []
    for name, field in record.model_fields.items():
        default = "required" if field.is_required() else f"`{json.dumps(field.get_default(), default=_dumped)}`"
        told = " ".join(
            filter(None, [field.description, f"({choices})" if (choices := _choices(field.annotation)) else ""])
        )
        lines.append(f"| `{field.alias or name}` | {default} | {told} |")
    return ["| parameter | default | meaning |", "| --- | --- | --- |", *lines] if lines else ["No parameters."]


def _dumped(value: BaseModel) -> dict[str, Any]:
    return value.model_dump(exclude_defaults=True, by_alias=True)


def _inner(record: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the records that the keys of a record hold, and theirs, each once."""
    found = dict[type[BaseModel], None]()
    todo: list[Any] = [field.annotation for field in record.model_fields.values()]
    while todo:
        if isinstance(part := todo.pop(0), type) and issubclass(part, BaseModel):
            todo += [] if part in found else [field.annotation for field in part.model_fields.values()]
            found[part] = None
        todo += get_args(part)
    return list(found)


def page(kind: str) -> str:
    """Return the page of a kind of methods as Markdown: a table of all, then source and parameters of each."""
    head, columns = PAGES[kind]
    methods = {name: registry.method(kind, name) for name in registry.names(kind)}
    rows = []
    for name, method in methods.items():
        cells = [cell.replace("|", "\\|") for cell in columns(method)]
        rows.append(f"| [{name}](#{name}) | {' | '.join(cells)} |")
    sections = []
    for name, method in methods.items():
        sections += ["", f"## {name}", "", (method.__doc__ or "").strip(), "", *_parameters(method.Parameters)]
        for record in _inner(method.Parameters):
            sections += [
                "",
                f"### {name}: {record.__name__}",
                "",
                inspect.getdoc(record) or "",
                "",
                *_parameters(record),
            ]
    return head + "\n".join(rows + sections) + "\n"


def pages() -> dict[Path, str]:
    """Return paths and texts of the page of keys, and of the pages of all kinds of methods that have one."""
    methods = {Path(f"docs/{kind}.md"): page(kind) for kind in PAGES if kind in registry.KINDS}
    return {Path("docs/keys.md"): keys(), **methods}


def main(argv: Sequence[str] | None = None) -> int:
    """Write all files."""
    for path, text in [*((FOLDER / name, text) for name, text in schemas().items()), *pages().items()]:
        write_text(path, text)
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
