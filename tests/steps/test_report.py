"""The report: whole, self-contained, escaped, sorted by raw values; and its one-screen summary."""

import base64
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from planted_report import CELLS, CLAIM, ENTRY, HOSTILE, cell, write_rows, write_run

from redoubt.errors import RedoubtError
from redoubt.graph.code import SOURCE
from redoubt.judging import decided
from redoubt.judging.cells import COLUMNS
from redoubt.judging.held import Held
from redoubt.report import views
from redoubt.report.page import TEMPLATES
from redoubt.report.page import page as report_page
from redoubt.report.summary import summary
from redoubt.steps import report as steps_report

VOID = {"meta", "input", "img", "br", "hr", "link"}


@pytest.fixture
def results(tmp_path):
    return write_run(tmp_path)


class Page(HTMLParser):
    """Collects elements, and what is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.elements, self.text = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append((tag, self.getpos()))

    def handle_data(self, data):
        self.text.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_page_is_balanced_and_ids_are_unique_and_links_lead_somewhere(results):
    page = Page(report_page(ENTRY, results))
    assert page.wrong == [] and page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    local = [found["href"][1:] for found in page.of("a") if found["href"].startswith("#")]
    assert set(local) <= set(ids)
    labels = [found["aria-labelledby"] for _, found in page.elements if "aria-labelledby" in found]
    assert set(labels) <= set(ids)


def test_page_needs_no_other_file(results):
    text = report_page(ENTRY, results)
    page = Page(text)
    sources = [value for _, found in page.elements for key, value in found.items() if key in ("src", "srcset")]
    assert sources and all(source.startswith("data:") for source in sources)
    assert not page.of("link") and all("src" not in found for found in page.of("script"))
    assert not re.search(r"https?://|@import|url\(", text)
    assert all(found["href"].startswith(("#", "data:")) for found in page.of("a"))


def test_every_artifact_is_there_with_data_and_commands(results):
    text = report_page(ENTRY, results)
    page = Page(text)
    for artifact in ENTRY["studies"]["toy"]["artifacts"]:
        assert ("h3", {"id": f"toy-{artifact['id']}"}) in page.elements
        assert artifact["title"] in page.text
        assert f"snakemake results/demo/toy/{artifact['id']}.csv --config scale=demo" in page.text
        assert f"dvc repro {artifact['kind']}@toy-{artifact['id']}" in page.text
        pdf = f"snakemake results/demo/toy/{artifact['id']}.pdf --config scale=demo"
        assert (pdf in page.text) == (artifact["kind"] == "figure")
    downloads = {found["download"]: found["href"] for found in page.of("a") if "download" in found}
    assert set(downloads) == {"toy-table-1.csv", "toy-figure-2.csv", "toy-figure-2.svg"}
    content = base64.b64decode(downloads["toy-table-1.csv"].partition(",")[2])
    assert content == (results / "toy" / "table-1.csv").read_bytes()
    assert text.count("Not drawn yet.") == 1


def test_no_study_with_a_red_gate_is_called_robust(results):
    def words(gate):
        write_rows(results / "toy" / "gates.csv", [{"model": "mlp", "label": "MLP", "check": "slopes", "gate": gate}])
        study = ENTRY["studies"]["toy"] | {"title": "Toy: more robust"}
        gates = {"id": "gates", "kind": "table", "title": "Gates", "caption": "How robust", "plot": "gates"}
        study["artifacts"] = [*study["artifacts"], gates]
        found = report_page(ENTRY | {"studies": {"toy": study}}, results)
        return set(re.findall(r".?robust.?", found)), "MLP: slopes" in found

    found, told = words("green")
    assert not told and not any("“" in word for word in found)
    assert words("red") == ({"“robust”"}, True)


def test_text_of_others_is_escaped(results):
    text = report_page(ENTRY, results)
    assert HOSTILE not in text
    assert "&lt;script&gt;alert" in text and "&lt;b&gt;x&lt;/b&gt;" in text and "epochs &amp; images" in text
    assert [found.get("id") for found in Page(text).of("script")] == ["panels", "seconds", None]


def test_sort_keys_are_raw_values_and_texts_are_by_metric(results):
    text = report_page(ENTRY, results)
    cells = dict(re.findall(r'<td data-sort="([^"]*)" class="number"[^>]*>(.*?)</td>', text))
    assert re.sub("<.*?>", " ", cells["0.9790000000000001"]).split() == ["97.90", "%", "97.50", "%", "–", "98.25", "%"]
    assert cells["0.111"] == "1.11e-01" and cells[""] == "—"


def test_verdicts_are_words_and_counted(results):
    page = Page(report_page(ENTRY, results))
    text = " ".join(" ".join(page.text).replace("\xa0", " ").split())
    for verdict in (*views.CELL_VERDICTS, *views.CLAIM_VERDICTS):
        assert verdict in text
    assert "1 reproduced, 1 deviates, 1 not-comparable, 1 not-run" in text
    assert "1 percentage point " in text and "10 % of the published value" in text


def test_a_number_that_strong_attacks_lower_is_struck_through_and_said_in_words(results):
    strong = {"adaptive": "0.125", "adaptive_low": "0.1", "adaptive_high": "0.15", "adaptive_by": "square"}
    lowered = cell("mlp-reference", "Acc.", "deviates", queries="1234.4", optimality="0.3", **strong)
    kept = cell("mlp-defended", "Acc.", "deviates", **strong | {"adaptive": "0.99"})
    for name in ("scorecard.csv", "toy/table-1.csv"):
        write_rows(results / name, [lowered, kept], COLUMNS)
    text = report_page(ENTRY, results)
    told = '<s>97.90 %</s><span class="unseen"> no longer holds: 12.50 % is left by square</span>'
    assert text.count(told) == 2 and text.count("<s>") == 2  # in the scorecard and in the table
    assert "10.00 % – 15.00 %" in text and '<span class="soft">square</span></td>' in text
    assert "under strong attacks</b>, with who decided it" in text


def test_what_is_left_of_claims_under_strong_attacks(results):
    write_rows(results / "claims.csv", [CLAIM | {"adaptive_verdict": "not-comparable"}], [*CLAIM, "adaptive_verdict"])
    page = Page(report_page(ENTRY, results))
    text = " ".join(" ".join(page.text).replace("\xa0", " ").split())
    assert "under strong attacks ○ not-comparable" in text
    assert "Claims under strong attacks 1 1 ○ not-comparable Cells" in text
    assert "  under strong attacks: 0 holds, 0 fails, 0 undecided, 1 not" in summary(ENTRY, results)


def test_several_runs_show_their_deviation_and_what_the_interval_is_over(results):
    several = {"seeds": "3", "std": "0.0021", "published_std": "0.001", "over": "test images and training runs"}
    kept = cell("mlp-reference", "Acc.", "reproduced", margin="0.005", **several)
    repeat = cell("mlp-defended", "Acc.", "order only", not_counted="repeats table-9")
    for name in ("scorecard.csv", "toy/table-1.csv"):
        write_rows(results / name, [kept, repeat], COLUMNS)
    text = report_page(ENTRY, results)
    assert "98.31 % ± 0.10 %" in text and "97.90 % ± 0.21 %" in text and 'title="over test images and' in text
    assert 'class="v-order-only"' in text and text.split('id="panels"')[0].count("repeats table-9") == 2
    assert "1 order only" not in " ".join(Page(text).text)


def test_headings_have_scopes_and_stamp_tells_the_scale(results):
    text = report_page(ENTRY, results)
    assert all(found.get("scope") in ("row", "col") for found in Page(text).of("th"))
    assert '<body class="scale-demo">' in text and "Not a reproduction" in text
    paper = ENTRY | {"scale": "paper", "comparable": True, "stamp": "scale paper"}
    text = report_page(paper, results)
    assert '<body class="scale-paper">' in text and "Not a reproduction" not in text


def test_every_check_of_a_claim_shows_effect_p_and_n(results):
    (view,) = views.claim_views(decided.read(results / "claims.csv"), ENTRY)
    assert [part["dataset"] for part in view["parts"]] == ["Toys"] and view["here"] == "fails"
    first, second = view["checks"]
    assert [first[name] for name in ("effect", "adjusted", "n", "test")] == [
        "-0.123",
        "0.0002",
        "10\u202f000",
        "McNemar's test",
    ]
    assert [second[name] for name in ("effect", "adjusted", "n", "here")] == ["—", "—", "—", "not-run"]
    text = report_page(ENTRY, results)
    for shown in ("table-1[a, x] &gt; [b]", "-0.123", "10\u202f000", "McNemar&#39;s test", "Toys: 1 fail, 1 not run"):
        assert shown in text, shown


def test_claims_of_an_older_run_are_read(results):
    old = {key: CLAIM[key] for key in CLAIM if key not in ("dataset", "check", "here")}
    write_rows(results / "claims.csv", [old])
    (view,) = views.claim_views(decided.read(results / "claims.csv"), ENTRY)
    assert (view["here"], view["parts"], view["checks"]) == ("fails", [], [])
    assert "Defended is best" in report_page(ENTRY, results) and "fails" in summary(ENTRY, results)


def test_long_data_are_cut_on_the_page_only(results):
    rows = [{"epoch": str(number)} for number in range(views.MAX_DATA_ROWS + 7)]
    write_rows(results / "toy" / "table-1.csv", rows)
    text = report_page(ENTRY, results)
    assert f"The first {views.MAX_DATA_ROWS} of {len(rows)} rows" in text


def test_page_is_the_same_again(results):
    assert report_page(ENTRY, results) == report_page(ENTRY, results)


def spoil(rows, **changes):
    return [rows[0] | changes, *rows[1:]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        (b"", "column 'study' is missing"),
        (b"\xff\xfe\x00", "not readable"),
        (b"study,artifact\ntoy,table-1\n", "column 'row' is missing"),
        (",".join(COLUMNS).encode() + b"\ntoy,table-1\n", f"row 1 does not have {len(COLUMNS)} values"),
        (",".join(COLUMNS).encode() + b'\ntoy,"table-1\n', "not readable"),
    ],
)
def test_broken_scorecard_is_refused(results, text, message):
    path = results / "scorecard.csv"
    path.unlink()
    if text is not None:
        path.write_bytes(text)
    for make in (report_page, summary):
        with pytest.raises(RedoubtError, match=message) as error:
            make(ENTRY, results)
        assert "scorecard.csv" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "great"}, "row 1: verdict: 'great'"),
        ({"n": "many"}, "row 1: n: 'many'"),
        ({"ci_low": "inf"}, "ci_low"),
    ],
)
def test_cells_that_make_no_sense_are_refused(results, changes, message):
    write_rows(results / "scorecard.csv", spoil(CELLS, **changes), COLUMNS)
    with pytest.raises(RedoubtError, match=message):
        report_page(ENTRY, results)


def test_a_claim_is_shown_with_its_shares_of_simulated_worlds(results):
    facts = {"study": "toy", "claim": "claim-1", "scale": "paper", "worlds": 200, "checks": 2, "simulated": 1}
    now = Held(**facts, basis="b1", null=0.025, fit="fit", reason="no numbers are printed")
    text = report_page(ENTRY, results, [now])
    cells = re.findall(r'<dd title="([^"]*)">([^<]*)</dd>', text)
    reason = "200 worlds of each kind at scale paper; no numbers are printed"
    assert cells == [(reason, "2.5 %"), (reason, "—")]
    assert "Older than the claim" not in text
    old = report_page(ENTRY, results, [now.model_copy(update={"basis": "b0", "printed": 0.995})])
    assert "2.5 % (older)</dd>" in old and "99.5 % (older)</dd>" in old
    assert old.count("Older than the claim") == 1 and "simulated worlds of claim-1;" in old
    assert re.findall(r'<dd title="([^"]*)">', report_page(ENTRY, results)) == ["not simulated"] * 2


def test_studies_without_claims_have_a_report(results):
    (results / "claims.csv").write_text("\n")
    assert "No study states a claim." in report_page(ENTRY, results)
    assert "0 holds" in summary(ENTRY, results)


def test_contents_are_folded_and_every_study_has_its_tab(results):
    two = ENTRY | {"studies": {**ENTRY["studies"], "next_one": ENTRY["studies"]["toy"] | {"title": "A next study"}}}
    page = Page(report_page(two, results))
    tabs = [found["href"] for found in page.of("a") if found["href"].startswith("#study-") and "title" in found]
    assert tabs == ["#study-toy", "#study-next_one"]
    assert "Toy" in page.text and "Next one" in page.text
    contents = [found for found in page.of("details") if found.get("class") == "contents"]
    assert len(contents) == 2 and not any("open" in found for found in contents)


def test_claims_stand_before_everything_else_with_their_three_verdicts_and_red_gates(results):
    gates = {"id": "gates", "kind": "table", "title": "Gates", "caption": "", "plot": "gates"}
    study = ENTRY["studies"]["toy"] | {"artifacts": [*ENTRY["studies"]["toy"]["artifacts"], gates]}
    write_rows(results / "toy" / "gates.csv", [{"model": "mlp", "label": "MLP", "check": "slopes", "gate": "red"}])
    text = report_page(ENTRY | {"studies": {"toy": study}}, results)
    first = text.split('<section class="view"')[1]
    assert re.findall(r'data-sort="(\w[\w-]*)" data-label="([^"]*)"', first) == [
        ("holds", "Printed"),
        ("fails", "Reproduced"),
        ("not-run", "Strong attacks"),
        ("1", "Gates"),
    ]
    assert 'href="#red-toy"' in first and 'id="red-toy"' in text and 'href="#toy-claim-1"' in first


def fits(text):
    lines = text.splitlines()
    return len(lines) <= 40 and max(map(len, lines)) <= 80


def test_summary_fits_one_screen(results):
    text = summary(ENTRY, results)
    assert fits(text) or str(results) in text  # only the path, which is the user's, may be longer
    assert "NOT comparable" in text and "toy/table-1" in text and "not written yet" in text
    assert re.search(r"fails +toy/claim-1: Defended is best", text)


def test_summary_of_many_artifacts_fits_one_screen(results, monkeypatch):
    studies = [f"study-{number}" for number in range(4)]
    cells = [
        cell("r", "c", "reproduced", study=study, artifact=f"an-artifact-of-a-very-long-name-{n}")
        for study in studies
        for n in range(12)
    ]
    write_rows(results / "scorecard.csv", cells, COLUMNS)
    claims = [CLAIM | {"study": study, "claim": f"claim-{n}"} for study in studies for n in range(13)]
    write_rows(results / "claims.csv", claims)
    monkeypatch.chdir(results)
    text = summary(ENTRY | {"stamp": "a long stamp " * 12}, results.relative_to(results))
    assert fits(text)
    assert "study-3" in text and "claim-12" in text


def test_command_line_writes_page_and_prints_summary(results, capsys):
    out = results / "report" / "index.html"
    arguments = ["--entry", json.dumps(ENTRY), "--results", str(results)]
    assert steps_report.main([*arguments, "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert steps_report.main([*arguments, "--summary"]) == 0
    printed = capsys.readouterr().out
    assert str(out) in printed and "not written yet" not in printed


def test_command_line_tells_a_broken_scorecard_in_one_line_and_imports_no_torch(results):
    (results / "scorecard.csv").unlink()
    script = "import sys; from redoubt.steps import report; from redoubt.errors import cli\n"
    script += "code = cli(lambda _: report.main(sys.argv[1:])); assert 'torch' not in sys.modules; sys.exit(code)"
    arguments = ["--entry", json.dumps(ENTRY), "--results", str(results)]
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (results / "report").exists()


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_the_page_has_the_same_bytes_in_any_locale(results):
    entry = ENTRY | {"stamp": "scale demo: ρ ≤ 1 → „nicht vergleichbar“"}
    claim = CLAIM | {"statement": "λ rises → accuracy falls"}
    write_rows(results / "claims.csv", [claim])
    command = [sys.executable, "-m", "redoubt.steps.report", "--entry", json.dumps(entry), "--results", str(results)]
    environment = os.environ | {"PYTHONPATH": str(SOURCE)} | ASCII
    subprocess.run(command, check=True, env=environment)
    text = (results / "report/index.html").read_text(encoding="utf-8")
    assert text == report_page(entry, results) and "λ rises → accuracy falls" in text


def test_a_claim_is_headed_by_its_title_above_its_statement(results):
    entry = json.loads(json.dumps(ENTRY))
    plain = report_page(entry, results)
    entry["studies"]["toy"].setdefault("claims", {})["claim-1"] = {"title": "The best <one>"}
    titled = report_page(entry, results)
    assert 'href="#toy-claim-1">The best &lt;one&gt;</a>' in titled and "<h4>The best &lt;one&gt;</h4>" in titled
    assert titled.count("Defended is best") == plain.count("Defended is best") > 1


# -- print ------------------------------------------------------------------------------------------------------------


def test_printed_tables_wrap_where_the_screen_scrolls(results):
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    screen, printed = style.split("@media print")
    assert ".scroll { overflow: auto;" in screen and ".data td, .data th { white-space: nowrap;" in screen
    assert ".scroll, .tall { overflow: visible;" in printed
    assert ".scroll > table :is(th, td) { white-space: normal; overflow-wrap: anywhere;" in printed


@pytest.mark.parametrize(("columns", "kept"), [(14, True), (60, False)])
def test_short_values_stay_together_in_print_unless_there_are_many_columns(results, columns, kept):
    row = {f"column_{number}": "0.0769230769230769" for number in range(columns - 1)} | {"n": "16"}
    write_rows(results / "toy/table-1.csv", [row])
    text = report_page(ENTRY, results)
    assert ('<td class="short">16</td>' in text) == kept and ("<td>16</td>" in text) == (not kept)
    assert "<td>0.0769230769230769</td>" in text
