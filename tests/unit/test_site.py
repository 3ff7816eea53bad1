"""The docs site: links lead somewhere, contents name all pages, and generated pages say what code and results hold."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

import redoubt
from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.study.config import ROOTS
from redoubt.study.files import read_study
from redoubt.tools import _site_reference as reference
from redoubt.tools import _site_studies, schemas, site, verdicts

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def laid():
    """Texts of all pages, places of other files, contents; a link without a goal is an error here."""
    return site.laid_out(ROOT)


def test_the_contents_name_every_page_and_the_site_has_it(laid):
    pages, files, index = laid
    rows = [row for part in site.navigation(index) for section in part.values() for row in section]
    listed = Counter(place for row in rows for place in row.values())
    assert max(listed.values()) == 1 and listed.keys() <= pages.keys()
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= listed.keys() | {site.INDEX}
    assert {"docs/keys.md", "docs/api.md", "docs/cite.md", "docs/study-learn2perturb.md"} <= listed.keys()
    assert {"README.md", "CONTRIBUTING.md", "config/README.md", "results/reference/README.md"} <= pages.keys()
    assert "docs/architecture.svg" in files


@pytest.mark.parametrize("kind", ["attacks", "defenses", "metrics", "networks", "artifacts", "probes"])
def test_every_method_and_each_of_its_parameters_is_on_the_page_of_its_kind(kind, laid):
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", laid[0][f"docs/{kind}.md"], re.MULTILINE | re.DOTALL))
    for name in registry.names(kind):
        for key, field in registry.method(kind, name).Parameters.model_fields.items():
            assert f"| `{field.alias or key}` |" in sections[name], (name, key)
    assert laid[0][f"docs/{kind}.md"] == schemas.page(kind)


def test_every_key_of_every_file_is_on_the_page_of_keys(laid):
    text, count = laid[0]["docs/keys.md"], 0
    for name, record in ROOTS.items():
        schema = record.model_json_schema(by_alias=True)
        part = text[text.index(f"## {reference.FILES.get(name) or f'`config/studies/<study>/{name}.yaml`'}") :]
        for title, own in {"": schema, **schema.get("$defs", {})}.items():
            section = part[part.index(f"### {name}: {title}\n") if title else 0 :].split("\n#", 1)[0]
            for key in own.get("properties", {}):
                assert f"\n| `{key}` |" in section, (name, title, key)
                count += 1
    assert count > 100 and text == reference.keys()
    assert "| `seeds` | list of: whole number ≥ 0 | `[0]` | one run for each |" in text
    assert "| `device` | `auto` or `cpu` or `cuda` | `auto` |" in text
    assert "| key " not in laid[0]["config/README.md"]  # keys are listed in one place


def test_the_python_page_has_calls_arguments_and_errors(laid):
    text = laid[0]["docs/api.md"]
    craft = text[text.index("### craft\n") :].split("\n### ")[0]
    assert "    *,\n    engine: str = 'redoubt'," in craft and ") -> Result" in craft
    assert "- `labels`: (N,) int64 true classes." in craft and "**Raises**" in craft
    assert "#### BaseDefense.loss" in text and "### evaluate\n" in text


def test_a_study_page_counts_the_verdicts_of_its_runs_and_shows_their_figures(laid):
    pages, files, _ = laid
    text = pages["docs/study-deepdefense.md"]
    with (ROOT / "results/reference/paper/scorecard.csv").open() as file:
        counts = Counter(row["verdict"] for row in csv.DictReader(file))
    (row,) = re.findall(r"\| \[paper\]\(#run-paper\) \|.*", text)
    assert f"| {counts['reproduced']} | – | – | {counts['deviates']} | {counts['not-comparable']} |" in row
    assert re.search(r"\| claim-7 \|.*\| – \| – \| – \| fails \|", text), "printed, paper, five-runs, laptop"
    assert "![Figure 2. Convergence on MNIST](../results/reference/paper/deepdefense/figure-2.png)" in text
    assert "results/reference/paper/deepdefense/figure-2.png" in files


def test_a_study_page_has_the_verdict_on_a_whole_claim_not_on_its_last_dataset():
    found = verdicts.claims(ROOT / verdicts.REFERENCE)
    runs = [run for run in found if run.startswith("prior-")]
    text = _site_studies.page(ROOT, "perceptual_prior", read_study(ROOT, "perceptual_prior"), found)
    apart = 0
    for key in (f"claim-{number}" for number in range(1, 16)):
        own = [[row for row in found[run] if (row.study, row.claim) == ("perceptual_prior", key)] for run in runs]
        said = [verdicts.totals(rows)[0].said.replace("not-run", "–") for rows in own]
        assert re.search(rf"\| {key} \|.*\| {' | '.join(said)} \|$".replace(" | ", r" \| "), text, re.MULTILINE), key
        apart += sum(rows[-1].said != verdicts.totals(rows)[0].said for rows in own)
    assert apart > 1


def test_a_study_without_a_run_says_so():
    study = read_study(ROOT, "learn2perturb")
    text = _site_studies.page(ROOT, "learn2perturb", study, {})
    assert "No finished run of this study" in text and "| claim-1 |" in text
    assert "No finished run" not in _site_studies.page(
        ROOT, "learn2perturb", study, verdicts.claims(ROOT / verdicts.REFERENCE)
    )


def test_how_to_cite_is_that_of_the_citation_file(laid):
    text = laid[0]["docs/cite.md"]
    assert f"version = {{{redoubt.__version__}}}" in text
    assert "- Jan Svoboda, Jonathan Masci, Federico Monti, Michael M. Bronstein and Leonidas Guibas (2019)." in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gone](gone.md)", r"docs/a\.md: gone\.md: no such file"),
        ("[up](../b.md#nothing)", r"docs/a\.md: \.\./b\.md#nothing: no such heading"),
        ("[folder](../docs)", r"docs/a\.md: \.\./docs: no such file"),
        ("# A\n[here](#b)", r"docs/a\.md: #b: no such heading"),
    ],
)
def test_a_link_without_a_goal_is_named(text, message, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "b.md").write_text("# The end, of `it`\n")
    with pytest.raises(RedoubtError, match=message):
        site.collected(tmp_path, {"docs/a.md": text})


def test_what_links_lead_to_comes_along(tmp_path):
    (tmp_path / "b.md").write_text("# The end, of `it`\n[c](code/c.py)\n```\n[no](link.md)\n```\n")
    (tmp_path / "code").mkdir()
    (tmp_path / "code/c.py").touch()
    pages, files = site.collected(tmp_path, {"docs/a.md": "[b](../b.md#the-end-of-it) [web](https://example.org)"})
    assert pages.keys() == {"docs/a.md", "b.md"} and files == ["code/c.py"]


def test_a_list_right_after_a_line_of_text_begins_after_an_empty_one():
    text = "Two:\n- a\n  b\n- c\n\n```\nx\n- y\n```\n"
    assert site.rendered(text) == "Two:\n\n- a\n  b\n- c\n\n```\nx\n- y\n```\n"


def test_a_section_that_is_not_there_is_named():
    with pytest.raises(RedoubtError, match="no section 'Reference'"):
        site.contents("# Contents\n", {"Reference": ["| [a](a.md) | b |"]})
