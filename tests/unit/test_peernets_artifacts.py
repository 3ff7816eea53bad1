"""Lines, bars, checks, galleries and shapes from synthetic rows: known answers, same bytes twice, what was not run."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from artifact_entries import LOOKS, artifact_entry, needs_of, undrawn

from redoubt import registry
from redoubt.artifacts import _drawing as drawing
from redoubt.artifacts import _pictures as pictures
from redoubt.artifacts import _style as style
from redoubt.artifacts import checks, example_gallery, universal_shape
from redoubt.errors import RedoubtError
from redoubt.evaluation.run import write_rows
from redoubt.judging.cells import Found, measured
from redoubt.judging.estimate import wilson
from redoubt.metrics.interface import read
from redoubt.study.entries.artifact import ArtifactEntry

REASON = "CIFAR-100 is not on this machine"
NAMES = {"a": "Plain", "b": "Peers", "gone": "Absent"}
METHODS = {"a": "Undefended", "b": "PeerNet", "gone": "MagNet"}
CLASSES = ["cat", "dog", "frog", "ship"]
RHOS = (0.1, 0.2, 0.4)
COUNT, PIXELS = 20, 16


def frame(draw, fooled, size=0.2):
    """Rows of 20 images: the last two are wrong as they are, the first so many of the others are fooled."""
    place = np.arange(COUNT)
    rows = pd.DataFrame({"index": 2 * place, "label": place % 4, "clean_label": place % 4})
    rows.loc[place >= COUNT - 2, "clean_label"] = (place[-2:] + 1) % 4
    rows["success"] = place < fooled
    rows["adversarial_label"] = np.where(rows["success"], (rows["clean_label"] + 2) % 4, rows["clean_label"])
    clean = draw.random((COUNT, PIXELS)).astype(np.float32)
    moved = np.clip(clean + size * draw.standard_normal(clean.shape) * rows["success"].to_numpy()[:, None], 0, 1)
    rows["l2"], rows["linf"] = 0.01 * (1 + place), 0.001 * (1 + place)
    rows["epsilon"] = np.where(place < fooled, 0.01 * (1 + place), np.nan)
    rows["clean_picture"], rows["picture"] = list(clean), list(moved.astype(np.float32))
    return rows


def attacked(path, model, attack, seed):
    draw = np.random.default_rng(100 * seed + len(attack))
    facts = {"model": model, "shape": "[1, 4, 4]", "classes": json.dumps(CLASSES)}
    if attack.startswith("universal"):
        more = 2 * (model == "a") + (attack == "universal-own")
        parts = {rho: 4 * place + more for place, rho in enumerate(RHOS)}
        rows = pd.concat([frame(draw, fooled).assign(rho=rho) for rho, fooled in parts.items()], ignore_index=True)
        tensors = {f"rho-{rho:g}": np.full((1, 4, 4), rho * (seed - 0.5), np.float32) for rho in RHOS}
        facts["shared"] = safetensors.numpy.save(tensors)
    else:
        rows = frame(draw, {"strong": 18, "weak": 5, "none": 0, "graph": 0}[attack])
    if attack == "graph":
        rows = rows.assign(layer="stage2", draw=0, franken=rows["clean_picture"], franken_label=np.arange(COUNT) % 4)
        rows.loc[1, "franken_label"] = 3
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(rows, path, facts)


@pytest.fixture
def entry(tmp_path):
    """Function (plot, parameters, printed lines) to the entry of an artifact; its rows exist but for model `gone`."""

    def make(plot, parameters, printed=(), seeds=(0,)):
        inputs = []
        for need in needs_of(plot, parameters):
            files = [tmp_path / need.model / f"seed-{seed}" / f"{need.attack}.parquet" for seed in seeds]
            for seed, path in zip(seeds, files, strict=True):
                if need.model != "gone":
                    attacked(path, need.model, need.attack, seed)
            missing = REASON if need.model == "gone" else None
            inputs.append({"model": need.model, "attack": need.attack, "missing": missing, "files": [*map(str, files)]})
        published = tmp_path / "published.csv"
        published.write_text("\n".join(["artifact,row,column,value,unit", *printed, ""]))
        labels = {name: {"method": METHODS[name], "network": "Net", "name": NAMES[name]} for name in NAMES}
        return artifact_entry(plot, parameters, labels, inputs=inputs, published=str(published))

    return make


FOOLED = {"metric": "fooling-rate", "label": "fooling rate", "printed": "Fool.@{}"}
KEPT = {"metric": "accuracy(at=attacked)", "label": "accuracy", "printed": "Acc.@{}"}
KEPT |= {"clean": "accuracy", "printed_clean": "Acc."}
SIZE = "norm(order=l2,over=fooled,scale=255)"
COLUMNS = [
    {"label": f"{attack} {name}", "metric": metric, "attack": attack}
    for attack in ("strong", "weak", "none")
    for name, metric in (("fooled", "fooling-rate(over=correct)"), ("l2", SIZE))
]


def bar(label, column):
    return {"label": label, "column": column}


BARS = [
    {"title": "fooled", "bars": [bar("S", "strong fooled"), bar("W", "weak fooled")]},
    {"title": "size", "bars": [bar("S", "strong l2"), bar("N", "none l2")], "log": True},
]


def lines(*models, **more):
    panel = {"title": "One", "attack": "universal", "models": list(models), "printed": "table-1"}
    return {"x": {"column": "rho", "label": "ρ"}, "y": [FOOLED, KEPT], "panels": [panel | more]}


def number(model="a", attack="strong", metric="fooling-rate(over=correct)", **where):
    return {"label": attack, "model": model, "attack": attack, "metric": metric, "where": where}


GALLERY = [{"title": "Strong", "attack": "strong"}, {"title": "Weak", "attack": "weak"}]
FIGURES = {
    "lines": lines("a", "b", "gone"),
    "bars": {"models": ["a", "gone"], "columns": COLUMNS, "panels": BARS, "printed": "table-1"},
    "universal-gallery": {"attack": "universal", "models": ["a", "b", "gone"], "images": 2},
    "example-gallery": {"attacks": GALLERY, "models": ["a", "gone"], "images": 2},
    "franken-images": {"attack": "graph", "models": ["a", "gone"], "images": 3},
}
TABLES = {
    "checks": {
        "checks": [
            {"title": "one", "relation": "reaches", "numbers": [number()]},
            {"title": "two", "relation": "rises", "numbers": [number(), number("gone")]},
        ]
    },
    "universal-shape": {"attack": "universal", "models": ["a", "gone"], "show": ["network", "method"]},
}


@pytest.mark.parametrize("plot", FIGURES)
def test_figures_have_the_same_bytes_twice(plot, entry, tmp_path):
    given, found = entry(plot, FIGURES[plot]), []
    for number_ in range(2):
        made = drawing.draw(given)
        for kind in ("svg", "png"):
            (tmp_path / f"{number_}.{kind}").write_bytes(style.picture(made, kind))
        (tmp_path / f"{number_}.csv").write_text(drawing.data(made))
        found.append([(tmp_path / f"{number_}.{kind}").read_bytes() for kind in ("svg", "png", "csv")])
    assert found[0] == found[1]
    svg = found[0][0].decode()
    assert "NOT comparable" in svg and "not run" in svg and svg.rstrip().endswith("</svg>") and "<dc:date>" not in svg


@pytest.mark.parametrize("plot", [*FIGURES, *TABLES])
def test_plots_draw_the_cells_that_they_announce(plot, entry):
    parameters = (FIGURES | TABLES)[plot]
    assert undrawn(plot, parameters, drawing.draw(entry(plot, parameters)).data) == ([], [])


@pytest.mark.parametrize("plot", [*FIGURES, *TABLES])
def test_what_was_not_run_leaves_rows_with_their_reason(plot, entry):
    made = drawing.draw(entry(plot, (FIGURES | TABLES)[plot]))
    column = "row" if plot == "universal-shape" else "model"
    gone = made.data[made.data[column] == "gone"]
    assert len(gone) and set(gone["reason"]) == {REASON}
    assert REASON not in set(made.data[made.data[column] == "a"]["reason"])
    if plot in TABLES:
        assert made.text.startswith("# A title\n\n_NOT comparable_\n") and REASON in made.text
        assert made.text.count("not run") >= 1


@pytest.mark.parametrize("plot", FIGURES)
def test_figures_without_any_model_say_why(plot, entry, tmp_path):
    parameters = {
        "lines": lines("gone"),
        "bars": FIGURES["bars"] | {"models": ["gone"]},
        "universal-gallery": FIGURES["universal-gallery"] | {"models": ["gone"]},
        "example-gallery": FIGURES["example-gallery"] | {"models": ["gone"]},
        "franken-images": FIGURES["franken-images"] | {"models": ["gone"]},
    }[plot]
    made = drawing.draw(entry(plot, parameters))
    (tmp_path / "f.svg").write_bytes(style.picture(made, "svg"))
    assert "not run" in (tmp_path / "f.svg").read_text() and set(made.data["reason"]) == {REASON}


def test_every_plot_tells_the_metrics_that_it_reads():
    for plot, parameters in (FIGURES | TABLES).items():
        module = registry.method("artifacts", plot)
        checked = registry.parameters("artifacts", plot, parameters)
        if hasattr(module, "metrics"):
            found = module.metrics(checked)
            assert found and all(read(metric).spelling == metric for metric in found)
        else:
            assert "metric" not in str(checked)


@pytest.mark.parametrize(
    ("step", "plot", "kinds"), [("figure", "lines", ("svg", "png")), ("table", "checks", ("text",))]
)
def test_steps_write_the_same_bytes_in_any_locale(step, plot, kinds, entry, tmp_path):
    given = entry(plot, (FIGURES | TABLES)[plot]) | {"title": "ρ → λ", "caption": "„≤“"}
    names = {kind: tmp_path / f"out.{kind}" for kind in ("data", *kinds)}
    outputs = [word for kind, path in names.items() for word in (f"--{kind}", str(path))]
    command = [sys.executable, "-m", f"redoubt.steps.{step}", "--entry", json.dumps(given), *outputs]
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | ascii_only)
    made = drawing.draw(given)
    assert names["data"].read_bytes() == drawing.data(made).encode()
    if step == "figure":
        assert names["svg"].read_bytes() == style.picture(made, "svg")
    else:
        assert names["text"].read_bytes() == made.text.encode() and "ρ → λ" in made.text


# -- lines ------------------------------------------------------------------------------------------------------------


def test_lines_hold_every_point_with_its_interval_and_printed_number(entry):
    printed = ["table-1,a,Fool.@0.2,44.0,percent", "table-1,a,Acc.,90.0,percent", "table-9,b,Fool.@0.2,1.0,percent"]
    data = drawing.draw(entry("lines", lines("a", "b"), printed)).data
    one = data.set_index(["model", "measure", "rho"])
    assert len(data) == 2 * (3 + 4) and set(data["panel"]) == {"One"}
    assert [one.loc[("a", "fooling rate", rho), "reproduced"] for rho in RHOS] == [2 / 20, 6 / 20, 10 / 20]
    assert [one.loc[("b", "fooling rate", rho), "reproduced"] for rho in RHOS] == [0 / 20, 4 / 20, 8 / 20]
    assert [one.loc[("a", "accuracy", rho), "reproduced"] for rho in (0, *RHOS)] == [18 / 20, 16 / 20, 12 / 20, 8 / 20]
    assert tuple(one.loc[("a", "fooling rate", 0.4), ["ci_low", "ci_high"]]) == wilson(10, 20)
    assert one.loc[("a", "accuracy", 0.0), "metric"] == "accuracy"
    assert (
        one.loc[("a", "fooling rate", 0.2), "published"] == 0.44 and one.loc[("a", "accuracy", 0.0), "published"] == 0.9
    )
    assert data["published"].notna().sum() == 2 and set(data["name"]) == {"Plain", "Peers"}


def test_lines_are_drawn_with_our_intervals(entry):
    """Not with statistics of the drawing library."""
    made = drawing.draw(entry("lines", lines("a")))
    for axis, measure in zip(made.figure.axes, ("fooling rate", "accuracy"), strict=True):
        shown = made.data[made.data["measure"] == measure]
        assert axis.lines[0].get_ydata().tolist() == shown["reproduced"].tolist()
        (bars,) = axis.containers
        ends = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
        assert np.array(ends) == pytest.approx(shown[["ci_low", "ci_high"]].to_numpy())


def test_printed_numbers_are_hollow_markers(entry):
    printed = ["table-1,a,Fool.@0.2,44.0,percent", "table-1,a,Fool.@0.4,55.0,percent"]
    axis = drawing.draw(entry("lines", lines("a", "b"), printed)).figure.axes[0]
    (hollow,) = [line for line in axis.lines if line.get_fillstyle() == "none" and len(line.get_xdata())]
    assert hollow.get_ydata().tolist() == [0.44, 0.55] and hollow.get_linestyle() == "None"
    assert hollow.get_markeredgecolor() == LOOKS["Undefended"]["color"]


def test_panels_of_a_column_have_one_range(entry):
    """Accuracy begins at the clean images, the fooling rate at the least rho: one rho lies in one line all the same."""
    made = drawing.draw(entry("lines", lines("a", "b")))
    above, below = made.figure.axes
    assert above.get_xlim() == below.get_xlim() and above.get_xlim()[0] < 0 < RHOS[-1] < above.get_xlim()[1]


def test_lines_put_seeds_together(entry):
    data = drawing.draw(entry("lines", lines("a"), seeds=(0, 3))).data
    assert set(data["n"]) == {20} and set(data["seeds"]) == {2}


def test_points_of_a_line_may_be_separate_attacks(entry):
    panel = {"title": "One", "models": ["a", "gone"], "attacks": {20: "none", 5: "weak", 1: "strong"}}
    given = {"x": {"column": "draws", "label": "draws", "log": True}, "y": [FOOLED], "panels": [panel]}
    made = drawing.draw(entry("lines", given))
    assert undrawn("lines", given, made.data) == ([], [])
    shown = made.data[made.data["model"] == "a"]
    assert dict(zip(shown["draws"], shown["attack"], strict=True)) == {20.0: "none", 5.0: "weak", 1.0: "strong"}
    assert shown["reproduced"].tolist() == [0.0, 5 / 20, 18 / 20]
    (axis,) = made.figure.axes
    assert axis.lines[0].get_xdata().tolist() == axis.get_xticks().tolist() == [1.0, 5.0, 20.0]
    cells = registry.method("artifacts", "lines").cells(registry.parameters("artifacts", "lines", given))
    assert [(cell["draws"], cell["attack"]) for cell in cells[:2]] == [(20.0, "none"), (5.0, "weak")]
    for refused, problem in (({"attack": "weak"}, "attack or attacks, not both"), ({}, "y.clean")):
        with pytest.raises(RedoubtError, match=problem):
            registry.parameters("artifacts", "lines", lines("a") | {"panels": [panel | refused]})


def test_a_panel_shows_other_models_under_attacks_of_their_own(entry):
    others = {"a": "universal-own", "gone": "universal-own"}
    own = [{"models": [model], "attack": attack} for model, attack in others.items()]
    made = drawing.draw(entry("lines", lines("b", lines=own) | {"y": [FOOLED]}))
    assert dict(zip(made.data["model"], made.data["attack"], strict=True)) == {"b": "universal", **others}
    rates = made.data.groupby("model")["reproduced"].apply(list)
    assert rates["b"] == [0 / 20, 4 / 20, 8 / 20] and rates["a"] == [3 / 20, 7 / 20, 11 / 20]
    (legend,) = made.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Peers", "Plain", "Absent (not run)"]
    assert [line.get_color() for line in legend.get_lines()] == [
        LOOKS[METHODS[model]]["color"] for model in ("b", "a", "gone")
    ]


def test_panels_with_other_lines_have_a_legend_each(entry):
    panels = [lines("a")["panels"][0], lines("a", "b", title="Two")["panels"][0]]
    made = drawing.draw(entry("lines", lines("a") | {"panels": panels}))
    told = [[text.get_text() for text in axis.get_legend().get_texts()] for axis in made.figure.axes[2:]]
    assert told == [["Plain"], ["Plain", "Peers"]] and not made.figure.legends
    assert [axis.get_title() for axis in made.figure.axes] == ["One", "Two", "", ""]


def test_a_model_under_two_attacks_has_two_lines_with_labels(entry):
    own = {"label": "own", "models": ["a"], "attack": "universal-own"}
    data = drawing.draw(entry("lines", lines("a", lines=[own]) | {"y": [FOOLED]})).data
    assert data.groupby("curve")["reproduced"].apply(list).to_dict() == {
        "a": [0.1, 0.3, 0.5],
        "own": [0.15, 0.35, 0.55],
    }
    with pytest.raises(RedoubtError, match="lines: a is there twice"):
        entry("lines", lines("a", lines=[{"models": ["a"], "attack": "universal-own"}]))


def test_a_metric_is_drawn_over_a_parameter_of_the_models(entry):
    """One estimate for each model, of the rows that `where` picks, beside what is printed of it."""
    through = {"label": "all", "models": ["b", "a", "gone"]}
    given = lines(lines=[through], where={"rho": 0.2}) | {"x": {"column": "lam", "label": "λ"}, "along": "lam"}
    given = entry("lines", given | {"y": [FOOLED]}, ["table-1,a,Fool.@0.5,44.0,percent"])
    for model, value in (("a", 0.5), ("b", 2.0)):
        given["models"][model]["parameters"] = {"lam": value}
    made = drawing.draw(given)
    found = made.data.set_index("model")
    assert found["lam"].tolist()[:2] == [2.0, 0.5] and found["reproduced"].tolist()[:2] == [4 / 20, 6 / 20]
    assert found["published"].dropna().to_dict() == {"a": 0.44} and found.loc["gone", "reason"] == REASON
    assert undrawn("lines", given["parameters"], made.data) == ([], [])
    assert made.figure.axes[0].lines[0].get_xdata().tolist() == [0.5, 2.0]


def test_clean_images_lie_on_no_log_axis():
    with pytest.raises(RedoubtError, match="clean images lie at the sweep's 0"):
        registry.parameters("artifacts", "lines", lines("a") | {"x": {"column": "rho", "label": "ρ", "log": True}})


def test_a_sweep_that_is_not_there_is_refused(entry):
    with pytest.raises(RedoubtError, match="the rows of a under the attack have no column 'size'"):
        drawing.draw(entry("lines", lines("a") | {"x": {"column": "size", "label": "size"}}))


# -- bars -------------------------------------------------------------------------------------------------------------


def test_bars_hold_the_metrics_of_the_columns(entry):
    printed = ["table-1,a,strong fooled,98.0,percent", "x-1,a,weak fooled,1.0,percent"]
    data = drawing.draw(entry("bars", FIGURES["bars"] | {"models": ["a"]}, printed)).data
    one = data.set_index(["panel", "bar"])
    assert (one.loc[("fooled", "S"), "reproduced"], one.loc[("fooled", "S"), "n"]) == (1.0, 18)
    assert one.loc[("fooled", "W"), "reproduced"] == pytest.approx(5 / 18) and one.loc[("size", "S"), "n"] == 18
    assert one.loc[("size", "S"), "reproduced"] == pytest.approx(255 * 0.01 * np.mean(np.arange(1, 19)))
    assert one.loc[("fooled", "S"), "published"] == 0.98 and data["published"].notna().sum() == 1
    assert (
        math.isnan(one.loc[("size", "N"), "reproduced"]) and one.loc[("size", "N"), "reason"] == "no image was fooled"
    )


def test_bars_of_no_column_are_refused(entry):
    with pytest.raises(RedoubtError, match="'Speed' is not the label of a column"):
        drawing.draw(entry("bars", FIGURES["bars"] | {"panels": [{"title": "x", "bars": [bar("S", "Speed")]}]}))


def test_bars_stand_in_the_order_of_the_config(entry):
    listed = [bar("W", "weak fooled"), bar("S", "strong fooled"), bar("N", "none fooled")]
    parameters = FIGURES["bars"] | {"models": ["a"], "panels": [{"title": "x", "bars": listed}]}
    made = drawing.draw(json.loads(json.dumps(entry("bars", parameters), sort_keys=True)))
    assert made.data["bar"].tolist() == ["W", "S", "N"]
    assert [label.get_text() for label in made.figure.axes[0].get_xticklabels()] == ["W", "S", "N"]


def test_bars_of_one_label_are_refused():
    listed = [bar("S", "weak fooled"), bar("S", "strong fooled")]
    with pytest.raises(RedoubtError, match="each bar of 'x' a separate label"):
        registry.parameters("artifacts", "bars", FIGURES["bars"] | {"panels": [{"title": "x", "bars": listed}]})


@pytest.mark.parametrize("printed", [[], ["table-1,a,weak fooled,99.0,percent"]])
def test_values_stand_over_their_own_interval(printed, entry):
    panels = [{"title": "x", "bars": [bar("W", "weak fooled")]}]
    made = drawing.draw(entry("bars", FIGURES["bars"] | {"models": ["a"], "panels": panels}, printed))
    (text,) = made.figure.axes[0].texts
    assert text.get_text() == "27.8" and text.xy[1] == pytest.approx(made.data["ci_high"].iloc[0])


def test_bars_are_drawn_with_our_intervals(entry):
    axis = drawing.draw(entry("bars", FIGURES["bars"])).figure.axes[0]
    data = drawing.draw(entry("bars", FIGURES["bars"])).data
    shown = data[(data["panel"] == "fooled") & (data["model"] == "a")]
    assert [bar.get_height() for bar in axis.containers[0]] == shown["reproduced"].tolist()
    whiskers = [line.get_ydata() for line in axis.lines if len(line.get_ydata()) > 1]
    ends = [[np.nanmin(values), np.nanmax(values)] for values in whiskers]
    assert np.array(ends) == pytest.approx(shown[["ci_low", "ci_high"]].to_numpy())


def test_bars_whose_model_was_not_run_say_so_in_place(entry, tmp_path):
    (tmp_path / "f.svg").write_bytes(style.picture(drawing.draw(entry("bars", FIGURES["bars"])), "svg"))
    text = (tmp_path / "f.svg").read_text()
    assert text.count(">not run<") == 4 and ">no image was fooled<" in text and ">100.0<" in text


# -- checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relation", "values", "slack", "expected"),
    [
        ("reaches", [1.0, 0.9], 0.0, True),
        ("reaches", [1.0, 0.89], 0.0, False),
        ("reaches", [1.0, 0.89], 0.02, True),
        ("reaches", [1.0, 0.87], 0.02, False),
        ("reaches", [1.0, None], 0.0, None),
        ("rises", [0.1, 0.1, 0.3], 0.0, True),
        ("rises", [0.1, 0.3, 0.29], 0.0, False),
        ("rises", [0.3, 0.1, 0.4], 0.1, False),
        ("rises", [0.1, 0.3, 0.29], 0.02, True),
        ("rises", [None, 0.3], 0.0, None),
        ("rises", [0.5], 0.0, True),
    ],
)
def test_checks_pass_fail_or_wait(relation, values, slack, expected):
    numbers = [number()]
    check = checks.Check(title="x", relation=relation, level=0.9, slack=slack, numbers=numbers)
    assert checks.passes(check, values) is expected


def test_the_table_of_checks_shows_numbers_and_outcome(entry):
    sweep = [number("b", "universal", "fooling-rate", rho=rho) for rho in RHOS]
    listed = [
        {"title": "unbounded", "relation": "reaches", "numbers": [number()]},
        {"title": "too high", "relation": "reaches", "level": 0.5, "numbers": [number(attack="weak")]},
        {"title": "rising", "relation": "rises", "numbers": sweep},
        {"title": "falling", "relation": "rises", "slack": 0.05, "numbers": sweep[::-1]},
    ]
    made = drawing.draw(entry("checks", {"checks": listed}))
    assert made.data.groupby("check", sort=False)["passed"].first().tolist() == [1, 0, 1, 0]
    assert made.data["reproduced"].tolist() == pytest.approx([1.0, 5 / 18, 0, 0.2, 0.4, 0.4, 0.2, 0])
    lines = [line for line in made.text.splitlines() if line.startswith("| ")][2:]
    assert lines[0] == "| unbounded | strong 100.00 % (n=18) ≥ 100.00 % | yes |"
    assert lines[1] == "| too high | weak 27.78 % (n=18) ≥ 50.00 % | **no** |"
    assert (
        lines[2].count(" ≤ ") == 2 and lines[2].endswith("| yes |") and lines[3].endswith("(within 5.00 %) | **no** |")
    )


def test_checks_of_one_title_are_refused():
    one = TABLES["checks"]["checks"][0]
    with pytest.raises(RedoubtError, match="a separate title"):
        registry.parameters("artifacts", "checks", {"checks": [one, one]})


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_keep_their_pixels():
    values = np.arange(12) / 12
    colour, grey = pictures.picture(values, [3, 2, 2]), pictures.picture(values[:4], [1, 2, 2])
    assert colour.shape == (2, 2, 3) and colour[0, 1].tolist() == pytest.approx([1 / 12, 5 / 12, 9 / 12])
    assert grey.tolist() == [[0, 1 / 12], [2 / 12, 3 / 12]] and pictures.picture([-1.0, 2.0], [1, 1, 2]).tolist() == [
        [0, 1]
    ]


@pytest.mark.parametrize("size", [0.01, 3.0])
def test_perturbations_are_amplified_to_the_full_range(size):
    image, factor = pictures.amplified(size * np.array([0.0, -1.0, 0.5, 0.25]), [1, 2, 2])
    assert image.ravel().tolist() == pytest.approx([0.5, 0.0, 0.75, 0.625]) and factor == pytest.approx(0.5 / size)
    assert (pictures.amplified(np.zeros(4), [1, 2, 2])[0] == 0.5).all()


def test_classes_without_names_are_numbers():
    assert (pictures.class_name(CLASSES, 1.0), pictures.class_name([], 3.0)) == ("dog", "3")
    assert (pictures.times(12.34), pictures.times(123.4), pictures.norms(1234.5, 1.2345)) == (
        "× 12",
        "× 123",
        "l2 1234, l∞ 1.23",
    )


def test_models_of_one_method_look_different():
    labels = {**{key: {"method": "PeerNet"} for key in "01234"}, "x": {"method": "MagNet"}}
    entry = ArtifactEntry.parse(artifact_entry("lines", lines("0"), labels))
    looks = style.variants([*"01x234"], entry)
    assert (looks["0"]["color"], looks["x"]["color"]) == (LOOKS["PeerNet"]["color"], LOOKS["MagNet"]["color"])
    for key in ("color", "marker", "dashes"):
        assert len({str(look[key]) for look in looks.values()}) >= 5, key
    assert style.variant(looks["0"], 5) == style.variant(looks["0"], 0)


# -- galleries --------------------------------------------------------------------------------------------------------


def test_universal_gallery_lists_what_it_shows(entry, tmp_path):
    chosen = {"attack": "universal", "models": ["a", "b"], "images": 3, "rhos": [0.1, 0.4]}
    made = drawing.draw(entry("universal-gallery", chosen, seeds=(3, 4)))
    data = made.data.set_index(["model", "index", "rho"])
    assert len(data) == 2 * 3 * 2 and set(made.data["index"]) == {0, 2, 4} and set(made.data["rho"]) == {0.1, 0.4}
    assert [data.loc[("a", index, 0.1), "fooled"] for index in (0, 2, 4)] == [1, 1, 0]
    every = drawing.draw(entry("universal-gallery", chosen | {"images": 20, "rhos": [0.1]}))
    wrong = every.data.set_index(["model", "index"])
    assert tuple(wrong.loc[("b", 38), ["class", "seen"]]) == ("ship", "cat")
    (told,) = (axis for axis in every.figure.axes if axis.get_xlabel() == "ship\nsees cat")
    assert told.get_ylabel() == "Plain"
    seen = [text.get_text() for axis in every.figure.axes for text in axis.texts]
    assert len(seen) == 20 and seen[-1] == "sees cat"  # of the second model, which has no picture there
    assert wrong.loc[("a", 38), "clean_label"] != wrong.loc[("a", 38), "label"] and not wrong.loc[("a", 38), "fooled"]
    assert tuple(data.loc[("a", 2, 0.1), ["class", "predicted"]]) == ("dog", "ship")
    assert tuple(data.loc[("a", 4, 0.1), ["class", "predicted"]]) == ("frog", "frog")
    assert data.loc[("a", 4, 0.1), "l2"] == pytest.approx(255 * 0.03)
    assert data.loc[("b", 0, 0.4), "amplification"] == pytest.approx(0.5 / (0.4 * 2.5))  # of seed 3, the first
    (tmp_path / "f.svg").write_bytes(style.picture(made, "svg"))
    text = (tmp_path / "f.svg").read_text()
    assert text.count(">v, ρ = 0.1<") == 1 and text.count(">× 0.5<") == 2 * 3 and text.count(">ρ = 0.4<") == 1
    assert ">v, ρ = 0.2<" not in text and text.count("<image ") == 3 + 2 * 3 * 4


@pytest.mark.parametrize(
    ("images", "blocks", "shape"), [(4, 2, (4, 9)), (3, 2, (4, 9)), (2, 1, (4, 4)), (1, 3, (2, 4))]
)
def test_universal_gallery_puts_images_in_blocks(images, blocks, shape, entry):
    chosen = {"attack": "universal", "models": ["a", "b"], "images": images, "blocks": blocks, "perturbations": False}
    made = drawing.draw(entry("universal-gallery", chosen))
    spec = made.figure.axes[0].get_gridspec()
    assert (spec.nrows, spec.ncols) == shape
    shown = [axis for axis in made.figure.axes if axis.images]
    assert len(shown) == images * (1 + 2 * 3)
    red = [axis for axis in shown if axis.xaxis.label.get_color() == "#B00020"]
    assert len(red) == made.data["fooled"].sum()


def test_example_gallery_lists_what_it_shows(entry):
    made = drawing.draw(entry("example-gallery", FIGURES["example-gallery"] | {"models": ["a", "b"], "images": 3}))
    data = made.data.set_index(["attack", "model", "index"])
    assert len(data) == 2 * 2 * 3 and set(made.data["index"]) == {0, 2, 4}
    assert tuple(data.loc[("strong", "b", 2), ["title", "class", "predicted", "fooled"]]) == (
        "Strong",
        "dog",
        "ship",
        1,
    )
    assert data.loc[("weak", "a", 4), "linf"] == pytest.approx(255 * 0.003)
    assert len([axis for axis in made.figure.axes if axis.images]) == 3 + 2 * 2 * 3 * 2
    seen = [text.get_text() for axis in made.figure.axes for text in axis.texts if "sees" in text.get_text()]
    assert seen == [f"Plain\nsees {label}\n\nPeers\nsees {label}" for label in ("cat", "dog", "frog")]


def test_franken_images_tell_what_is_seen_in_them_and_in_the_image(entry):
    made = drawing.draw(entry("franken-images", FIGURES["franken-images"] | {"models": ["a"]}))
    assert made.data[["class", "seen", "predicted"]].to_numpy().tolist() == [
        ["cat", "cat", "cat"],
        ["dog", "dog", "ship"],
        ["frog", "frog", "frog"],
    ]
    labels = {axis.get_xlabel(): axis.xaxis.label.get_color() for axis in made.figure.axes}
    assert labels["sees ship\n(image: dog)"] == "#B00020" and labels["sees cat\n(image: cat)"] == "#222222"


def test_unchanged_images_have_no_amplification(entry, tmp_path):
    shown = [{"title": "None", "attack": "none"}]
    made = drawing.draw(entry("example-gallery", {"attacks": shown, "models": ["a"], "images": 2}))
    assert made.data["amplification"].isna().all() and made.data["fooled"].tolist() == [0, 0]
    (tmp_path / "f.svg").write_bytes(style.picture(made, "svg"))
    assert (tmp_path / "f.svg").read_text().count(">unchanged<") == 2


@pytest.mark.parametrize(
    ("choose", "count", "expected"),
    [
        ("first", 2, [4, 6]),
        ("first", 9, [2, 4, 6, 8]),
        ("fooled", 1, [6]),
        ("fooled", 2, [6, 8]),
        ("fooled", 3, [4, 6, 8]),
    ],
)
def test_images_are_chosen_by_rule(choose, count, expected):
    base = {"index": [2, 4, 6, 8], "label": [1, 1, 1, 1]}
    one = pd.DataFrame({**base, "clean_label": [0, 1, 1, 1], "success": [True, True, True, True]})
    two = pd.DataFrame({**base, "clean_label": [1, 1, 1, 1], "success": [True, False, True, True]})
    more = pd.concat([two, pd.DataFrame({"index": [0], "label": [1], "clean_label": [1], "success": [True]})])
    assert example_gallery.chosen([one, more], count, choose) == expected
    assert example_gallery.chosen([more, one], count, choose) == expected


def test_sweeps_are_not_shown_as_examples(entry):
    with pytest.raises(RedoubtError, match="universal has several rows for an image"):
        drawing.draw(entry("example-gallery", {"attacks": [{"title": "x", "attack": "universal"}], "models": ["a"]}))


# -- shapes -----------------------------------------------------------------------------------------------------------


def spot(*places, shape=(3, 8, 8)):
    v = np.zeros(shape)
    for place in places:
        v[place] = -2.0
    return v


@pytest.mark.parametrize(
    ("v", "centre", "share", "even"),
    [
        (spot((0, 0, 0)), 0.5, 1.0, 0.0),
        (spot((1, 2, 2), (2, 5, 5)), 0.5, 0.0, math.log(2) / math.log(64)),
        (spot((0, 1, 4), (0, 4, 4)), 0.5, 0.5, math.log(2) / math.log(64)),
        (spot((0, 6, 4), (1, 6, 4)), 0.5, 1.0, 0.0),
        (np.ones((1, 8, 8)), 0.5, 0.75, 1.0),
        (-np.ones((3, 8, 8)), 0.25, 1 - 1 / 16, 1.0),
        (np.ones((2, 8, 4)), 0.5, 0.75, 1.0),
        (np.ones((1, 4, 4)), 1.0, 0.0, 1.0),
    ],
)
def test_shape_of_a_perturbation_by_hand(v, centre, share, even):
    assert universal_shape.outside(v, centre) == pytest.approx(share, abs=1e-12)
    assert universal_shape.entropy(v) == pytest.approx(even, abs=1e-12)
    assert universal_shape.entropy(7 * v) == pytest.approx(even, abs=1e-12)


def test_energy_counts_squares_and_entropy_sums():
    v = spot((0, 0, 0))
    v[1, 3, 3] = 1.0
    assert universal_shape.outside(v, 0.5) == pytest.approx(4 / 5)
    shares = np.array([2 / 3, 1 / 3])
    assert universal_shape.entropy(v) == pytest.approx(-(shares * np.log(shares)).sum() / math.log(64))


def test_shapes_are_listed_for_every_seed_and_radius(entry):
    made = drawing.draw(entry("universal-shape", TABLES["universal-shape"] | {"models": ["a"]}, seeds=(0, 2)))
    assert made.data["rho"].tolist() == [*RHOS] * 2 and made.data["seed"].tolist() == [0] * 3 + [2] * 3
    assert made.data["l2"].tolist() == pytest.approx([4 * 0.5 * rho for rho in RHOS] + [4 * 1.5 * rho for rho in RHOS])
    assert made.data["outside"].tolist() == pytest.approx([0.75] * 6) and (made.data["evenly"] == 0.75).all()
    assert made.text.count("| Net | Undefended |") == 6 and "| 0.2 | 2 | 1.2 | 75.0 % | 75.0 % | 1.0000 |" in made.text


def test_a_perturbation_of_zeros_has_no_shape():
    found = universal_shape._facts(np.zeros((1, 4, 4), np.float32), 0.5)
    assert math.isnan(found["outside"]) and math.isnan(found["entropy"]) and "zero" in found["reason"]


# -- cells ------------------------------------------------------------------------------------------------------------


def test_a_metric_without_any_image_is_not_run_and_tells_why():
    rows = frame(np.random.default_rng(0), 0).assign(seed=0)
    found = measured(SIZE, rows, None)
    assert found == Found(seeds=1, reason="no image was fooled") and found.n == 0
    assert measured(SIZE, None, "why").reason == "why"
    assert measured("fooling-rate", rows, None).reproduced == 0.0


def test_tables_show_a_cell_without_any_image(entry):
    columns = [{"label": "l2", "metric": SIZE, "attack": "none"}]
    made = drawing.draw(entry("metric-table", {"models": ["a"], "columns": columns}))
    assert made.data["verdict"].tolist() == ["not-run"] and "- not run: no image was fooled" in made.text
