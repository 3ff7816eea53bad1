"""Write the JSON schemas of the config files from their typed records.

Editors that know JSON schema then complete and check the YAML; a test keeps the files in step with the records.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from redoubt.config import ROOTS
from redoubt.errors import cli
from redoubt.files import write_text

FOLDER = Path("workflow/schemas")


def schemas() -> dict[str, str]:
    """Return file names and texts of all schemas."""
    return {
        f"{name}.schema.json": json.dumps(record.model_json_schema(by_alias=True), indent=1, sort_keys=True) + "\n"
        for name, record in ROOTS.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step from the command line."""
    for name, text in schemas().items():
        write_text(FOLDER / name, text)
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
