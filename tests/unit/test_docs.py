"""The pages: links lead somewhere, commands exist, the index is whole."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config/README.md", ROOT / "results/reference/README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            goal = (page.parent / path).resolve() if path else page
            assert goal.exists(), target
            assert not anchor or anchor in anchors(goal), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist(page):
    text = page.read_text()
    for module in re.findall(r"python -m (redoubt(?:\.\w+)*)", text):
        assert importlib.util.find_spec(module), module
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)|^ {4}make ([\w-]+)", text, re.MULTILINE)) <= {
        pair for name in known for pair in ((name, ""), ("", name))
    }


def test_the_index_names_every_page():
    linked = set(re.findall(r"\]\(([^)\s]+)\)", (ROOT / "docs/README.md").read_text()))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= linked
