"""Lay out the docs site: the repository's pages where they lie, and pages that are made from code and results.

`make docs` turns what is written here into HTML. Pages keep their places, so that links are the same in the repository
and on the site. docs/README.md says what the contents are; whatever its pages link to comes along. `SECTIONS` adds the
pages that only the site has. Every link is checked: without a goal, nothing is written.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from redoubt.errors import RedoubtError, cli
from redoubt.files import write_text
from redoubt.tools import _site_reference as reference
from redoubt.tools import _site_studies as studies

INDEX, SETTINGS = "docs/README.md", "docs/site.yml"
LINK = re.compile(r"\]\(([^)\s]+)\)")
ROW = re.compile(r"^\| \[([^\]]+)\]\(([^)\s]+)\) \| (.*) \|$", re.MULTILINE)
FENCED = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
ENDED = re.compile(r"^((?![\s|#]|[-*] |\d+\. ).*\S.*\n)(?=(?:- |1\. ))", re.MULTILINE)
"""A line of text right before a list; GitHub begins the list there, Python-Markdown after an empty line."""

Pages = dict[str, str]
"""Texts by their places, which are relative to the repository's root."""


def made(root: Path) -> tuple[Pages, dict[str, list[str]]]:
    """Return the pages that only the site has, and the rows that name them in the sections of the contents."""
    found = studies.pages(root)
    rows = {
        "What came out": [f"| [{title}]({place}) | {answers} |" for place, (title, answers, _) in found.items()],
        "Reference": [
            "| [From Python](api.md) | What can be imported, with which arguments? |",
        ],
        "The project": ["| [How to cite](cite.md) | How do I cite Redoubt, and the papers? |"],
    }
    texts = {f"docs/{place}": text for place, (_, _, text) in found.items()}
    texts |= {"docs/api.md": reference.api(), "docs/cite.md": reference.cite(root)}
    return texts, rows


def contents(text: str, rows: dict[str, list[str]]) -> str:
    """Return docs/README.md with the rows of further pages at the end of the tables of their sections.

    Raises:
        RedoubtError: it has no such section.
    """
    parts = re.split(r"(?m)^(?=## )", text)
    for title, lines in rows.items():
        number = next((n for n, part in enumerate(parts) if part.startswith(f"## {title}\n")), None)
        if number is None:
            raise RedoubtError(f"{INDEX}: no section {title!r}")
        parts[number] = parts[number].rstrip("\n") + "\n" + "\n".join(lines) + "\n\n"
    return "".join(parts).rstrip("\n") + "\n"


def navigation(text: str) -> list[dict[str, list[dict[str, str]]]]:
    """Return what mkdocs shows at the side, from the contents: titles and places by section."""
    nav = []
    for part in re.split(r"(?m)^## ", text)[1:]:
        rows = [{title: joined(INDEX, place)} for title, place, _ in ROW.findall(part)]
        nav.append({part.split("\n", 1)[0]: rows})
    return nav


def joined(page: str, target: str) -> str:
    """Return the place that a link of a page leads to."""
    parts = [*page.split("/")[:-1], *target.split("/")]
    while ".." in parts[1:]:
        at = parts.index("..", 1)
        del parts[at - 1 : at + 1]
    return "/".join(part for part in parts if part != ".")


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in plain}


def links(text: str) -> list[str]:
    """Return the targets of a page's links within the site."""
    return [target for target in LINK.findall(FENCED.sub("", text)) if not re.match(r"[a-z]+:", target)]


def collected(root: Path, pages: Pages) -> tuple[Pages, list[str]]:
    """Return all pages that the given ones lead to, and the other files that they show or offer.

    Raises:
        RedoubtError: links that lead nowhere, a line for each.
    """
    pages, files, wrong = dict(pages), list[str](), list[str]()
    asked = list(pages)
    goals = list[tuple[str, str, str, str]]()
    while asked:
        page = asked.pop()
        for target in links(pages[page]):
            path, _, anchor = target.partition("#")
            place = joined(page, path) if path else page
            goals.append((page, target, place, anchor))
            if place in pages or place in files:
                continue
            if not (root / place).is_file():
                wrong.append(f"{page}: {target}: no such file")
            elif place.endswith(".md"):
                pages[place] = (root / place).read_text(encoding="utf-8")
                asked.append(place)
            else:
                files.append(place)
    known = {place: anchors(text) for place, text in pages.items()}
    wrong += [f"{page}: {link}: no such heading" for page, link, place, to in goals if to and to not in known[place]]
    if wrong:
        raise RedoubtError("\n".join(wrong))
    return pages, files


def rendered(text: str) -> str:
    """Return a page as Python-Markdown wants it: an empty line before every list."""
    parts = FENCED.split(text)
    return "".join(part if part.startswith("```") else ENDED.sub(r"\1\n", part) for part in parts)


def laid_out(root: Path) -> tuple[Pages, list[str], str]:
    """Return texts of all pages, places of other files, and the contents.

    Raises:
        RedoubtError: a link leads nowhere, or a page of docs/ is not in the contents.
    """
    texts, rows = made(root)
    index = contents((root / INDEX).read_text(encoding="utf-8"), rows)
    pages, files = collected(root, {**texts, INDEX: index})
    listed = {
        place for section in navigation(index) for rows in section.values() for row in rows for place in row.values()
    }
    if missing := sorted(
        {page.relative_to(root).as_posix() for page in (root / "docs").glob("*.md")} - listed - {INDEX}
    ):
        raise RedoubtError(f"{INDEX}: it does not name {', '.join(missing)}")
    return pages, files, index


def write(root: Path, folder: Path) -> None:
    """Write all that mkdocs needs: `pages/`, and mkdocs.yml, which adds the contents to docs/site.yml."""
    pages, files, index = laid_out(root)
    shutil.rmtree(folder / "pages", ignore_errors=True)
    for place, text in pages.items():
        write_text(folder / "pages" / place, rendered(text))
    for place in [*files, *(path.relative_to(root).as_posix() for path in (root / "docs/assets").glob("*"))]:
        (folder / "pages" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / place, folder / "pages" / place)
    settings = {
        "INHERIT": str((root / SETTINGS).resolve()),
        "docs_dir": str((folder / "pages").resolve()),
        "nav": navigation(index),
    }
    write_text(folder / "mkdocs.yml", json.dumps(settings, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the site's sources."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to, such as .docs")
    write(Path(), parser.parse_args(argv).folder)
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
