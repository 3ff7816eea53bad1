"""Who made what: pages and files that name authors, data, versions and files of results."""

from pathlib import Path

import yaml

from redoubt.data.sources import SOURCES

ROOT = Path(__file__).resolve().parents[2]


def test_authors_and_terms_of_every_dataset_are_named():
    rows = [
        line.split("|")[1:-1] for line in (ROOT / "docs/data.md").read_text().splitlines() if line.startswith("| `")
    ]
    named = [name.strip(" `") for row in rows for name in row[0].split(",")]
    assert sorted(named) == sorted(SOURCES)
    assert all(len(cell.strip()) > 2 for row in rows for cell in row)


def test_the_paper_of_every_study_is_cited():
    references = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    cited = {item["title"].lower() for item in references}
    for study in (ROOT / "config/studies").glob("*/study.yaml"):
        assert yaml.safe_load(study.read_text())["title"].lower() in cited, f"{study}: add the paper to CITATION.cff"


def test_files_that_can_be_checked_are_there():
    manifest = yaml.safe_load((ROOT / "codecheck.yml").read_text())["manifest"]
    assert manifest and all((ROOT / item["file"]).is_file() and item["comment"] for item in manifest)


def test_hooks_run_what_lint_runs():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert all(hook["entry"] in lint for hook in repository["hooks"])
