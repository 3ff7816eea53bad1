"""The report in headless Chromium, opened from its file: sorting, filters, links, panels, downloads, axe, widths.

Run by `make test-browser`, which needs Chromium or Chrome on the machine.
"""

import csv
import io
import shutil
from pathlib import Path

import axe_playwright_python
import pytest
from planted_report import CELLS, CLAIM, ENTRY, cell, write_attacked, write_rows, write_run
from playwright.sync_api import sync_playwright

from redoubt.commands import __main__ as command
from redoubt.judging.cells import COLUMNS
from redoubt.report import rows
from redoubt.report.page import page as report_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
ID = "cell.toy.table-1.mlp-reference.Acc"
STRONG = {"adaptive": "0.125", "adaptive_low": "0.1", "adaptive_high": "0.15", "adaptive_by": "adaptive-linf-apgd"}
ATTACKS = {key: f"attacks/m/seed-0/{key}.parquet" for key in ("pgd", "many")}
CURVE = {"figure": "toy-figure-2", "title": "Figure 2. Curves", "at": "MNIST, mlp-reference"}
BEHIND = {
    "cells": {
        "toy/table-1": {
            f"mlp-reference/{column}": {"model": "m", "attack": "pgd", "where": {"rho": 1 / 3}}
            | {"strong": "many", "strong_where": {}, "curves": [CURVE]}
            for column in ("Acc.", "rho_2")
        }
    },
    "models": {
        "m": {
            "entry": {"id": "m", "network": {"name": "mlp"}},
            "file": "config/studies/toy/models.yaml",
            "seeds": [0, 1],
            "changed": [{"set": {"epochs": 5}, "why": "five epochs", "file": "config/scales/demo/toy.yaml"}],
        }
    },
    "attacks": {
        key: {"entry": {"id": key}, "file": "config/studies/toy/attacks.yaml", "changed": []} for key in ATTACKS
    },
    "runs": {"m": {"code": "c0de1", "jobs": ["defend/m/seed-0", "defend/m/seed-1"], "files": ["models/m/weights"]}}
    | {
        f"m/{key}": {"code": "c0de2", "jobs": [f"attack/m/seed-0/{key}"], "files": [f"results/demo/{place}"]}
        for key, place in ATTACKS.items()
    },
}
PARTS = ["claims", "study-toy", "study-next", "scorecard", "rule"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of a page of two studies: wide tables, long names, red gates."""
    folder = write_run(tmp_path_factory.mktemp("run"))
    lowered = cell("a-network-of-a-very-long-name-" * 2, "Acc.@0.5eps_ref", "deviates", **STRONG)
    wide = [cell("mlp-reference", f"column {n}", "order only", reproduced=f"{n / 100}") for n in range(30)]
    for study in ("toy", "next"):
        own = [each | {"study": study} for each in (*CELLS, lowered, *wide)]
        write_rows(folder / study / "table-1.csv", own, COLUMNS)
        write_rows(folder / study / "gates.csv", [{"model": "mlp", "label": "MLP", "check": "slopes", "gate": "red"}])
    scored = [each | {"study": study} for study in ("toy", "next") for each in (*CELLS, lowered, *wide)]
    write_rows(folder / "scorecard.csv", scored, COLUMNS)
    other = CLAIM | {"study": "next", "claim": "claim-2", "statement": "A calmer one", "here": "holds"}
    write_rows(folder / "claims.csv", [CLAIM, other])
    toy = ENTRY["studies"]["toy"]
    gates = {"id": "gates", "kind": "table", "title": "Gates", "caption": "", "plot": "gates"}
    toy = toy | {"artifacts": [*toy["artifacts"], gates]}
    entry = ENTRY | {"studies": {"toy": toy, "next": toy | {"title": "Next: another"}}}
    seconds = {"defend/m/seed-0": 2.5, "defend/m/seed-1": 2.0}
    (folder / "toy/figure-2.pdf").write_bytes(b"%PDF-1.4")
    for number, place in enumerate(ATTACKS.values()):
        write_attacked(folder / place, [0.2, 1 / 3, *range(1, 99 * number)])
    place = folder / "report/index.html"
    place.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "MAX_ROWS", 500)
        place.write_text(report_page(entry, folder, (), BEHIND, seconds), encoding="utf-8")
    return place.as_uri()


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, address):
    """Open the page at a place, in a window of a width; a script's error fails the test."""
    errors, windows = [], []

    def at(place="", width=1440, address=address, **options):
        window = chromium.new_page(viewport={"width": width, "height": 900}, **options)
        windows.append(window)
        window.on("pageerror", lambda error: errors.append(str(error)))
        window.goto(address + place)
        return window

    yield at
    for window in windows:
        window.close()
    assert not errors


def shown(window, table):
    """Return the rows of a table that can be seen, each as the texts of its cells."""
    rows = window.locator(f"#{table} tbody tr:visible").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


def test_a_column_is_sorted_both_ways_and_the_address_says_so(opened):
    window = opened("#scorecard")
    heading = window.locator("#scorecard-table th[data-column=reproduced]")
    order = []
    for way, said in (("ascending", "sort=reproduced"), ("descending", "sort=-reproduced")):
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == way and window.url.endswith(f"#scorecard?{said}")
        values = window.eval_on_selector_all(
            "#scorecard-table tbody tr", "rows => rows.map(row => row.cells[5].dataset.sort)"
        )
        assert values[-1] == ""  # what has no number comes last in both
        order.append([float(value) for value in values if value])
    assert order[0] == sorted(order[0]) and order[1] == order[0][::-1]


def test_filters_are_in_the_address_and_come_from_it(opened):
    window = opened("#scorecard")
    window.locator("#scorecard-table").wait_for()
    form = window.locator("form[data-filters=scorecard-table]")
    form.get_by_label("Study").select_option("next")
    form.get_by_label("Text").fill("rho_2 reference")
    found = shown(window, "scorecard-table")
    assert [row[:4] for row in found] == [["Next", "table-1", "mlp-reference", "rho_2"]]
    assert form.locator("output").inner_text() == "1 of 70 cells"
    again = opened(window.url.partition("index.html")[2])
    assert shown(again, "scorecard-table") == found
    again.locator("form[data-filters=scorecard-table] button[type=reset]").click()
    again.wait_for_function(
        "document.querySelector('form[data-filters=scorecard-table] output').textContent[0] === '7'"
    )
    assert again.url.endswith("#scorecard") and len(shown(again, "scorecard-table")) == 70
    window.locator("a[data-show='reproduced=holds']").click()
    assert [row[1].split("\n")[0] for row in shown(window, "claims-table")] == ["A calmer one"]


def test_tabs_show_one_part_and_a_link_leads_into_another(opened):
    window = opened()
    assert window.locator("main .view:visible").count() == 1 and window.locator("#claims-table").is_visible()
    window.keyboard.press("Tab")
    assert window.locator(":focus").inner_text() == "Skip to the claims"
    window.locator("#claims-table").get_by_role("link", name="A calmer one").click()
    assert window.locator("#next-claim-2").is_visible() and not window.locator("#claims-table").is_visible()
    assert window.locator(".tabs a[aria-current]").inner_text() == "Next"
    window.go_back()
    assert window.locator("#claims-table").is_visible()


def test_a_number_opens_its_panel_and_the_address_opens_it_again(opened):
    window = opened("#study-toy")
    window.locator(f"#study-toy ~ article .wide a[href='#{ID}']").click()
    assert window.url.endswith(f"#study-toy?cell={ID}")
    again = opened(f"#scorecard?verdict=reproduced&cell={ID}")
    for each in (window, again, opened(f"#{ID}")):
        told = each.get_by_role("dialog").inner_text()
        for text in ("mlp-reference · Acc.", "97.90 %", "97.50 % – 98.25 %", "c0de1", "4.5 s in 2 jobs", "0, 1"):
            assert text in told, text
        for text in ("five epochs", "config/scales/demo/toy.yaml", "rho = 0.3333", "attacks/m/seed-0/pgd.parquet"):
            assert text in told, text
        assert "snakemake results/demo/toy/table-1.csv --config scale=demo" in told
    window.keyboard.press("Escape")
    window.wait_for_function("!location.hash.includes('cell=')")
    assert window.get_by_role("dialog").count() == 0 and window.locator("#study-toy").is_visible()


def test_a_number_leads_to_the_figure_that_draws_it_and_back(opened):
    window = opened(f"#scorecard?cell={ID}")
    window.get_by_role("dialog").get_by_role("link", name="Figure 2. Curves").click()
    figure = window.locator("article[aria-labelledby=toy-figure-2]")
    assert window.url.endswith("#toy-figure-2") and figure.is_visible() and window.get_by_role("dialog").count() == 0
    figure.get_by_text("Its points in tables").click()
    figure.get_by_role("link", name="97.90 %").click()
    assert "A point of Figure 2. Curves: MNIST, mlp-reference" in window.get_by_role("dialog").inner_text()
    assert window.url.endswith(f"#toy-figure-2?cell={ID}")
    window.keyboard.press("Escape")
    figure.get_by_role("link", name="Table 1. Cells").click()
    assert window.url.endswith("#toy-table-1")


def downloaded(window, link):
    with window.expect_download() as waiting:
        link.click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_text(encoding="utf-8")


def test_a_cell_a_table_and_a_figure_are_downloaded_whole(opened):
    window = opened(f"#study-toy?cell={ID}")
    name, text = downloaded(window, window.get_by_role("link", name="This cell as CSV"))
    (row,) = csv.DictReader(io.StringIO(text))
    assert name == f"{ID}.csv" and row == CELLS[0]
    name, text = downloaded(window, window.get_by_role("link", name="Its rows as CSV (3)"))
    assert name == f"{ID}.pgd.csv"
    assert text == "seed,index,label,success,l2,rho\n0,0,7,False,0,0.333333\n0,1,7,True,0.333333,0.333333\n" + (
        "0,2,7,True,inf,0.333333\n"
    )
    assert window.get_by_text("Its rows are too many for this page").get_by_role("link").get_attribute("href") == (
        f"../{ATTACKS['many']}"
    )
    window.keyboard.press("Escape")
    own = window.locator("article[aria-labelledby=toy-figure-2]")
    name, text = downloaded(window, own.get_by_role("link", name="Download SVG"))
    assert name == "toy-figure-2.svg" and text.startswith("<svg")
    name, text = downloaded(window, own.get_by_role("link", name="Download CSV"))
    assert name == "toy-figure-2.csv" and text.startswith("epoch,test")
    pdf = own.get_by_role("link", name="PDF beside this page")
    assert pdf.get_attribute("href") == "../toy/figure-2.pdf"
    own.locator("details.numbers summary").click()
    assert own.locator("table.data td").all_inner_texts()[:3] == ["0", "0.5", "1"]
    assert "<script>" in own.locator("table.data td").last.inner_text()


@pytest.fixture(scope="module")
def compared(address):
    """The address of a page that compares the run with one in which a cell is outside and a claim has turned."""
    place = Path(address.removeprefix("file://"))
    folder, other = place.parents[1], place.parents[2] / "other"
    other.mkdir()
    scored = [dict(row) for row in csv.DictReader((folder / "scorecard.csv").open(encoding="utf-8"))]
    moved = scored[0] | {"reproduced": "0.5", "ci_low": "0.4", "ci_high": "0.6"}
    write_rows(other / "scorecard.csv", [moved, *scored[1:]], COLUMNS)
    write_rows(other / "claims.csv", [CLAIM | {"here": "holds"}])
    page = place.with_name("comparison.html")
    assert command.main(["compare", str(folder), str(other), "--html", str(page)]) == 1
    return page.as_uri()


def test_a_comparison_is_filtered_and_leads_to_the_report(opened, compared):
    window = opened(address=compared)
    worst = shown(window, "cells-table")[0]
    assert worst[4:6] + worst[8:] == ["97.90 %", "50.00 %", "reproduced", "✗\xa0outside"]
    window.locator("a[data-show='grade=byte-equal']").click()
    assert len(shown(window, "cells-table")) == 69 and window.url.endswith("#cells?grade=byte-equal")
    window.get_by_role("link", name="Claims that turned (1)").click()
    assert [row[2:4] for row in shown(window, "claims-table")] == [["✗\xa0fails", "✓\xa0holds"]]
    window.go_back()
    window.get_by_role("button", name="Clear").first.click()
    window.locator("#cells-table").get_by_role("link", name="97.90 %").first.click()
    assert "mlp-reference · Acc." in window.get_by_role("dialog").inner_text() and window.url.endswith(
        f"index.html#{ID}"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_nothing_and_nothing_is_cut_off(opened, address, compared, width, scheme):
    parts = [(address, place) for place in (*PARTS, f"scorecard?cell={ID}")]
    for start, place in [*parts, (compared, "cells"), (compared, "claims")]:
        window = opened(f"#{place}", width, start, color_scheme=scheme)
        assert window.evaluate("document.documentElement.scrollWidth") <= width, place
        for table in window.locator(".stacked:visible").all():
            assert table.bounding_box()["width"] <= width
        window.evaluate(AXE.read_text(encoding="utf-8"))
        found = window.evaluate("axe.run()")["violations"]
        assert not found, (place, [(each["id"], each["nodes"][0]["html"]) for each in found])


def test_the_page_is_whole_without_a_script_and_on_paper(opened):
    plain = opened("#study-next", java_script_enabled=False)
    assert plain.locator("main .view:visible").count() == len(PARTS)
    assert not plain.locator("form.filters").first.is_visible()
    window = opened("#scorecard")
    window.emulate_media(media="print")
    assert window.locator("main .view:visible").count() == len(PARTS) and not window.locator(".tabs").is_visible()
