"""What a number of the report is made of: every cell that can be clicked has it, and the page stays small."""

import json
import re
from dataclasses import replace

import pytest
from planted_report import CELLS, ENTRY, HOSTILE, cell, held, write_attacked, write_rows, write_run

from redoubt.graph.jobs import Jobs
from redoubt.judging.cells import COLUMNS
from redoubt.report import curves, origins, rows, views
from redoubt.report.page import page as report_page
from redoubt.study import catalog
from redoubt.study.needs import Sampled

MEGABYTE = 1_000_000


@pytest.fixture
def results(tmp_path):
    return write_run(tmp_path)


@pytest.fixture(scope="module")
def behind():
    """What the numbers of the repository's studies are made of, at scale demo."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Jobs, "_version", lambda *_: "v1")
        return origins.origins(Jobs(catalog.load(changes={"scale": "demo"})))


def test_every_number_that_can_be_clicked_says_what_it_is_made_of(results):
    twice = [*CELLS, cell("mlp-reference", "Acc.", "deviates", reason=HOSTILE)]
    for name in ("scorecard.csv", "toy/table-1.csv"):
        write_rows(results / name, twice, COLUMNS)
    text = report_page(ENTRY, results)
    links = re.findall(r'<a href="#([^"]+)" data-cell>', text)
    panels = held(text, "panels")
    assert len(links) == 2 * len(twice) and set(links) == set(panels["cells"]) and len(set(links)) == len(twice)
    told = panels["cells"]["cell.toy.table-1.mlp-reference.Acc"]
    assert told["name"] == ["toy", "table-1", "mlp-reference", "Acc.", "accuracy", "reproduced"]
    assert ["reproduced", "97.90 %"] in told["facts"] and ["95 % interval", "97.50 % – 98.25 %"] in told["facts"]
    assert dict(zip(panels["columns"], told["values"], strict=True))["reproduced"] == "0.9790000000000001"
    again = panels["cells"]["cell.toy.table-1.mlp-reference.Acc.2"]
    assert again["facts"][-1] == ["reason", HOSTILE] and HOSTILE not in text


def test_a_panel_tells_data_weights_code_and_seconds_of_the_jobs_behind_it(results, tmp_path):
    facts = {"seed": 1, "data": {"name": "digits"}, "sha256": "w1", "versions": {}, "device": "cpu", "entry": {}}
    place = results / "models/m/seed-1/model.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(facts))
    (tmp_path / "defend/m").mkdir(parents=True)
    (tmp_path / "defend/m/seed-1.tsv").write_text("s\th:m:s\n2.5\t0:00:02\n")
    known = {"model": "m", "attack": "a", "where": {}, "strong": None, "strong_where": {}}
    run = {"code": "c1", "jobs": ["defend/m/seed-0", "defend/m/seed-1"], "files": ["w"]}
    behind = {
        "cells": {"toy/table-1": {"mlp-reference/Acc.": known}},
        "models": {"m": {"entry": {"id": "m"}, "seeds": [0, 1]}},
        "attacks": {"a": {"entry": {"id": "a"}}},
        "runs": {"m": run, "m/a": run, "m/other": run},
    }
    seconds = origins.seconds(tmp_path, run["jobs"])
    text = report_page(ENTRY, results, (), behind, seconds)
    panels = held(text, "panels")
    assert held(text, "seconds") == {"defend/m/seed-1": 2.5}
    assert panels["models"]["m"]["trained"] == [{key: facts[key] for key in facts if key != "entry"}]
    assert panels["cells"]["cell.toy.table-1.mlp-reference.Acc"]["origin"] == known
    assert set(panels["runs"]) == {"m", "m/a"}


def test_the_origins_of_every_cell_are_entries_of_the_config_and_runs_of_the_workflow(behind):
    table = behind["cells"]["peernets/table-3"]
    origin = {"model": "mnist-lenet5-none", "attack": "universal-mnist", "where": {"rho": 0.2}}
    assert table["mnist-lenet5-none/Acc."] == origin | {"strong": None, "strong_where": {}, "curves": []}
    strong = {"strong": "adaptive-universal-mnist", "strong_where": {"rho": 0.2}}
    fooled = table["mnist-lenet5-none/Fool.@0.2"]
    assert fooled == origin | strong | {"curves": fooled["curves"]}
    figures = {curve["figure"]: curve["at"] for curve in fooled["curves"]}
    assert (
        figures["peernets-figure-7"] == "MNIST, mnist-lenet5-none, fooling rate" and "peernets-figure-5" not in figures
    )
    model = behind["models"]["mnist-lenet5-none"]
    assert model["entry"]["training"]["epochs"] == 5 and model["file"] == "config/studies/peernets/models.yaml"
    changed = model["changed"][0]
    assert changed["why"] == "LeNet-5 and PR-LeNet-5 see 300 digits for 5 epochs"
    assert changed["file"] == "config/scales/demo/peernets.yaml" and changed["set"]["training"]["images"] == 300
    assert not any("CIFAR" in each["why"] for each in model["changed"])
    run = behind["runs"]["mnist-lenet5-none/universal-mnist"]
    assert run["files"][0] == "results/demo/attacks/mnist-lenet5-none/seed-0/universal-mnist.parquet"
    assert run["jobs"][0] == "attack/mnist-lenet5-none/seed-0/universal-mnist" and run["code"] == "v1"
    answered = [each for own in behind["cells"].values() for each in own.values() if each["strong"]]
    assert answered and all(f"{each['model']}/{each['strong']}" in behind["runs"] for each in answered)


SMALL = {"model": "m", "attack": "a", "where": {"rho": 1 / 3}, "strong": "s", "strong_where": {}}


@pytest.fixture
def attacked(results):
    """Runs of two attacks on a model of two seeds, whose rows are there, and of a third whose rows are not."""
    files = {f"m/{key}": [f"results/demo/attacks/m/seed-{seed}/{key}.parquet" for seed in (0, 1)] for key in "asz"}
    for key in "as":
        for seed in (0, 1):
            write_attacked(results / f"attacks/m/seed-{seed}/{key}.parquet")
    return {key: {"files": own} for key, own in files.items()}


def test_the_page_holds_the_rows_that_cells_are_made_of(results, attacked):
    behind = {"cells": {"toy/table-1": {"mlp-reference/Acc.": SMALL}}, "models": {}, "attacks": {}, "runs": attacked}
    text = report_page(ENTRY, results, (), behind)
    columns = dict(held(text, "m/a", "data-rows"))
    assert list(columns) == ["seed", "index", "label", "success", "l2", "rho"]  # an array is left out
    assert columns["rho"] == [0.333333] * 6 and columns["seed"] == [0, 0, 0, 1, 1, 1]
    assert columns["l2"][:3] == [0, 0.333333, "inf"] and columns["success"][:3] == [False, True, True]
    assert len(dict(held(text, "m/s", "data-rows"))["seed"]) == 12 and held(text, "panels")["left_out"] == []
    assert report_page(ENTRY, results, (), behind) == text


def test_rows_that_are_too_many_are_named_and_rows_that_are_not_there_are_not(results, attacked):
    wanted = rows.asked([SMALL, SMALL | {"attack": "z"}])
    assert wanted == {"m/a": [{"rho": 1 / 3}], "m/s": [{}, {}], "m/z": [{"rho": 1 / 3}]}
    whole, left_out = rows.held(wanted, attacked, results, rows.MAX_ROWS)
    assert set(whole) == {"m/a", "m/s"} and left_out == []
    most = sum(map(len, whole.values())) - 1
    kept, left_out = rows.held(wanted, attacked, results, most)
    assert kept == {"m/a": whole["m/a"]} and left_out == ["m/s"]  # the larger one


NUMBER = Sampled({"row": "r", "column": "c"}, "m", "pgd", "accuracy", {"epsilon": 0.1, "steps": 7})
CURVE = Sampled({"panel": "MNIST", "curve": "m"}, "m", "pgd", "accuracy", {"steps": 7}, "epsilon")


@pytest.mark.parametrize(
    ("change", "is_one"),
    [
        ({}, True),
        ({"where": {"epsilon": 0.1, "steps": 7}, "along": None}, True),  # a bar
        ({"model": "other"}, False),
        ({"attack": "other"}, False),
        ({"metric": "loss"}, False),
        ({"where": {"steps": 8}}, False),
        ({"where": {}}, False),
        ({"along": "rho"}, False),
    ],
)
def test_a_number_is_a_point_of_a_curve_by_model_attack_metric_and_place(change, is_one):
    assert curves.is_point(NUMBER, replace(CURVE, **change)) == is_one
    timed = {"attack": None, "where": {}}
    assert not curves.is_point(replace(NUMBER, **timed), replace(CURVE, **timed))


def test_a_figure_leads_to_the_numbers_of_tables_that_it_draws(results):
    one = SMALL | {"curves": [{"figure": "toy-figure-2", "title": "Figure 2. Curves", "at": "MNIST, mlp"}] * 2}
    behind = {"cells": {"toy/table-1": {"mlp-reference/Acc.": one, "mlp-reference/rho_2": SMALL}}}
    text = report_page(ENTRY, results, (), behind | {"runs": {}})
    figure = text[text.index('id="toy-figure-2"') : text.index('id="toy-figure-3"')]
    shared = re.search(r'<details class="shared">(.*?)</details>', figure, re.DOTALL)[1]
    assert re.findall('href="(.*?)"', shared) == ["#toy-table-1", "#cell.toy.table-1.mlp-reference.Acc"]
    assert "mlp-reference, Acc.:" in shared and "97.90 %" in shared and text.count('<details class="shared">') == 1


def big(results, studies, figures, size):
    """Write studies with 300 cells and some figures each; return the report's entry of them."""
    made, scored = {}, []
    for study in studies:
        cells = [cell(f"network-{n}", "Acc.", "reproduced", study=study, reason="because " * 9) for n in range(300)]
        write_rows(results / study / "table-1.csv", cells, COLUMNS)
        for number in range(figures):
            write_rows(results / study / f"figure-{number}.csv", [{"epoch": str(n)} for n in range(500)])
            (results / study / f"figure-{number}.svg").write_text("<svg>" + " " * (size + number))
        kinds = {"table-1": "table"} | {f"figure-{number}": "figure" for number in range(figures)}
        titled = [{"id": key, "kind": kind, "title": key, "caption": "", "plot": kind} for key, kind in kinds.items()]
        made[study] = ENTRY["studies"]["toy"] | {"artifacts": titled}
        scored += cells
    write_rows(results / "scorecard.csv", scored, COLUMNS)
    return ENTRY | {"studies": made}


def test_four_studies_are_a_small_page_and_the_claims_come_first(results):
    entry = big(results, ["toy", "b", "c", "d"], figures=12, size=200_000)
    text = report_page(entry, results)
    first, *others = text.split('<section class="view"')[1:]
    assert 'id="claims"' in first and len(others) == 6
    before = text.index(others[0]) + len(re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1])
    assert before < MEGABYTE and MEGABYTE < len(text.encode()) < 10 * MEGABYTE
    named = re.findall(r'<a href="\.\./(\w+)/(figure-\d+\.svg)">', text)
    held_here = text.count('<img src="data:')
    assert len(named) + held_here == 48 and held_here == views.MAX_PICTURES // 200_012
    assert ("toy", "figure-11.svg") in named and all((results / study / file).is_file() for study, file in named)
