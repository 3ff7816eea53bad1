"""Write what is derived from the code: the JSON schemas of the config files, and the page of all attacks.

Editors that know JSON schema then complete and check the YAML; tests keep the files in step with the code.
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from redoubt import registry
from redoubt.errors import cli
from redoubt.files import write_text
from redoubt.study.config import ROOTS

FOLDER = Path("workflow/schemas")
ATTACKS = Path("docs/attacks.md")
HEAD = """# Attacks

Every attack of Redoubt; `make format` writes this page from the modules in `src/redoubt/attacks/`. An attack sees a
model as a callable from images in [0, 1] to logits, and is made on the very model that it is scored on. In a study's
file it is an entry under `attacks`; in Python, one call:

```python
from redoubt.evaluation.craft import craft

result = craft("pgd", model, images, labels, epsilons=[0.1, 0.3], steps=40)
result.rows.groupby("epsilon").success.mean()  # one row per image and epsilon; result.images has the images
```

Random models: `draws: 20` in the entry averages the logits of so many forward passes at every step of crafting (in
Python, `redoubt.evaluation.expectation.Expectation`); `repetitions: 10` scores every crafted image so often, each time
with draws of its own; `draws_apart: true` is for models that draw once a call. `gradient: straight-through` crafts
with gradients that pass by the peer layers of a network (in Python, `redoubt.evaluation.surrogate.StraightThrough`);
scores are the model's own. Epsilons, radii and step sizes are in units of the attacked space: of images in [0, 1] for
`space: pixels`, of the network's inputs for `space: preprocessed`.

| attack | threat model | needs | cost of an image | engines |
| --- | --- | --- | --- | --- |
"""


def schemas() -> dict[str, str]:
    """Return file names and texts of all schemas."""
    return {
        f"{name}.schema.json": json.dumps(record.model_json_schema(by_alias=True), indent=1, sort_keys=True) + "\n"
        for name, record in ROOTS.items()
    }


def _choices(annotation) -> str:
    literal = re.search(r"Literal\[(.*?)\]", str(annotation))
    return " \\| ".join(re.findall(r"'([^']+)'", literal[1])) if literal else ""


def _parameters(method) -> list[str]:
    lines = []
    for name, field in method.Parameters.model_fields.items():
        default = "required" if field.is_required() else f"`{json.dumps(field.get_default())}`"
        choices = _choices(field.annotation)
        described = f"{field.description} ({choices})" if choices else field.description
        lines.append(f"| `{field.alias or name}` | {default} | {described} |")
    return lines


def attacks_page() -> str:
    """Return the page of all attacks as Markdown: threat model, needs, cost, source, and parameters with defaults."""
    methods = {name: registry.method("attacks", name) for name in registry.names("attacks")}
    rows = [
        f"| [{name}](#{name}) | {method.THREAT} | {method.NEEDS} | {method.COST} | {', '.join(method.ENGINES)} |"
        for name, method in methods.items()
    ]
    sections = []
    for name, method in methods.items():
        sections += ["", f"## {name}", "", method.__doc__.strip(), ""]
        if lines := _parameters(method):
            sections += ["| parameter | default | meaning |", "| --- | --- | --- |", *lines]
    return HEAD + "\n".join(rows + sections) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    for name, text in schemas().items():
        write_text(FOLDER / name, text)
    write_text(ATTACKS, attacks_page())
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
