"""The pages: the commands that they name exist; tests/unit/test_site.py follows their links."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config/README.md", ROOT / "results/reference/README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist(page):
    text = page.read_text()
    for module in re.findall(r"python -m (redoubt(?:\.\w+)*)", text):
        assert importlib.util.find_spec(module), module
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)|^ {4}make ([\w-]+)", text, re.MULTILINE)) <= {
        pair for name in known for pair in ((name, ""), ("", name))
    }
