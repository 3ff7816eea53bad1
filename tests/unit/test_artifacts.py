"""Tables and figures from synthetic rows: same bytes twice, reasons in place of what was not run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from artifact_entries import LOOKS, artifact_entry, needs_of, undrawn
from matplotlib.figure import Figure

from redoubt import registry
from redoubt.artifacts import _drawing as drawing
from redoubt.artifacts import _style as style
from redoubt.artifacts import metric_table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.errors import RedoubtError
from redoubt.evaluation.run import write_rows
from redoubt.graph.code import closure
from redoubt.steps import figure_pdf
from redoubt.study.entries.artifact import ArtifactEntry, Look
from redoubt.study.files import read_study

ROOT = Path(__file__).resolve().parents[2]
METHODS = {"a": "Reference", "b": "Clean", "c": "DeepDefense", "gone": "Par. Train"}
KNOWN = {name: Look(**look) for name, look in LOOKS.items()}
REASON = "ImageNet is not on this machine"


def history(path, number):
    epochs = np.arange(6.0)
    frame = pd.DataFrame({"epoch": epochs, "test_images": 100.0, "test_accuracy": 0.9 + 0.01 * epochs / (1 + number)})
    path.parent.mkdir(parents=True)
    frame.to_csv(path, index=False)
    rho = {
        "epoch": epochs,
        "step": 10,
        "probe": "rho-2",
        "measure": "test_rho_2",
        "value": 0.1 + 0.02 * number * epochs,
    }
    other = {"epoch": epochs / 2, "step": 5, "probe": "logit-margins", "measure": "test_margin", "value": 1.0}
    pd.concat([pd.DataFrame(rho), pd.DataFrame(other)]).to_parquet(path.with_name("trace.parquet"))


def attacked(path, model, number, count=30):
    draw = np.random.default_rng(number)
    labels = np.arange(count) % 3
    frame = pd.DataFrame({"index": np.arange(count), "label": labels, "clean_label": labels})
    frame["adversarial_label"] = np.where(np.arange(count) % 2, labels, labels + 1)
    frame["l2"], frame["x_l2"] = draw.random(count) + number, 10.0
    frame["probability_label"], frame["probability_adversarial"] = 0.25, 0.75
    frame["clean_picture"] = list(np.full((count, 16), 0.5, np.float32))
    frame["picture"] = list(draw.random((count, 16)).astype(np.float32))
    frame["source"] = "a"
    write_rows(frame, path, {"model": model, "shape": "[1, 4, 4]"})


@pytest.fixture
def entry(tmp_path):
    def make(plot, parameters, **changes):
        inputs = []
        for need in needs_of(plot, parameters):
            name = "history.csv" if need.attack is None else f"{need.attack}.parquet"
            files = [tmp_path / need.model / f"seed-{seed}" / name for seed in (0, 1)]
            for seed, path in enumerate(files):
                if need.model != "gone":
                    number = ord(need.model) - ord("a") + 0.25 * seed
                    history(path, number) if need.attack is None else attacked(path, need.model, int(4 * number))
            missing = REASON if need.model == "gone" else None
            files += [] if need.attack else [path.with_name("trace.parquet") for path in files]
            inputs.append({"model": need.model, "attack": need.attack, "missing": missing, "files": [*map(str, files)]})
        published = tmp_path / "published.csv"
        published.write_text("artifact,row,column,value,unit\nx-1,a,Acc.,99.0,percent\nx-1,gone,rho_2,1.0e-1,ratio\n")
        models = {
            name: ({"method": label, "network": "MLP"}, {"c": 5.0 * (1 + place)})
            for place, (name, label) in enumerate(METHODS.items())
        }
        return artifact_entry(plot, parameters, models, inputs=inputs, published=str(published), **changes)

    return make


ACCURACY, RHO_2 = ({"column": name, "label": name} for name in ("test_accuracy", "test_rho_2"))
EPOCHS = {"x": {"column": "epoch", "label": "epoch"}, "y": [ACCURACY, RHO_2], "legend": "method"}
EPOCHS |= {"panels": [{"title": "MLP", "models": ["a", "b", "c", "gone"]}]}
THROUGH = [{"label": "one", "models": ["b", "c", "gone"]}]
SCATTER = {"x": RHO_2, "y": [ACCURACY], "along": "c", "panels": [{"models": ["a"], "lines": THROUGH}]}
FIGURES = {
    "lines": EPOCHS,
    "examples": {"attack": "deepfool", "replay": "replay", "rows": [
        {"title": "MLP", "models": ["a", "gone"], "judge": "c"}]},
}  # fmt: skip


def test_all_artifacts_are_tested():
    elsewhere = {"agreement", "bars", "checks", "example-gallery", "gates", "universal-gallery", "universal-shape"}
    elsewhere |= {"peer-graph", "franken-images", "timing-table", "settings-table", "layer-table"}
    assert {*FIGURES, "metric-table", *elsewhere} == set(registry.names("artifacts"))


@pytest.mark.parametrize("plot", FIGURES)
def test_figures_have_the_same_bytes_twice(plot, entry, tmp_path):
    given, found = entry(plot, FIGURES[plot]), []
    for number in range(2):
        made = drawing.draw(given)
        for kind in ("svg", "png"):
            (tmp_path / f"{number}.{kind}").write_bytes(style.picture(made, kind))
        (tmp_path / f"{number}.csv").write_text(drawing.data(made))
        found.append([(tmp_path / f"{number}.{kind}").read_bytes() for kind in ("svg", "png", "csv")])
    assert found[0] == found[1]
    svg = found[0][0].decode()
    assert "NOT comparable" in svg and svg.rstrip().endswith("</svg>") and "<dc:date>" not in svg


def test_a_figure_is_drawn_as_pdf_with_the_same_bytes_twice(entry, tmp_path):
    given, out = json.dumps(entry("lines", FIGURES["lines"])), tmp_path / "f.pdf"
    found = []
    for _ in range(2):
        assert figure_pdf.main(["--entry", given, "--out", str(out)]) == 0
        found.append(out.read_bytes())
    assert found[0] == found[1] and found[0].startswith(b"%PDF-") and b"CreationDate" not in found[0]


@pytest.mark.parametrize("plot", [*FIGURES, "metric-table"])
def test_plots_draw_the_cells_that_they_announce(plot, entry):
    columns = [{"label": "Acc.", "metric": "accuracy", "attack": "deepfool"}]
    parameters = FIGURES.get(plot, {"models": ["a", "gone"], "columns": columns})
    assert undrawn(plot, parameters, drawing.draw(entry(plot, parameters)).data) == ([], [])


@pytest.mark.parametrize("plot", FIGURES)
def test_missing_models_leave_a_row_with_their_reason(plot, entry):
    data = drawing.draw(entry(plot, FIGURES[plot])).data
    gone = data[data["model"] == "gone"]
    assert gone["reason"].tolist() == [REASON]
    assert data[data["model"] == "a"]["reason"].isna().all() and len(data[data["model"] == "a"]) >= 1


def test_lines_over_epochs_holds_every_epoch_of_every_seed(entry):
    data = drawing.draw(entry("lines", EPOCHS)).data
    assert len(data) == 3 * 2 * 6 + 1 and set(data["seed"].dropna()) == {0, 1}
    last = data[(data["model"] == "b") & (data["epoch"] == 5) & (data["seed"] == 0)].iloc[0]
    assert last["test_accuracy"] == pytest.approx(0.925) and last["test_rho_2"] == pytest.approx(0.2)


def test_a_model_without_probes_is_drawn_without_their_measures(entry):
    given = entry("lines", EPOCHS)
    for path in Path(given["inputs"][0]["files"][0]).parents[2].rglob("trace.parquet"):
        pd.read_parquet(path).iloc[:0].to_parquet(path)
    data = drawing.draw(given).data
    assert data["test_rho_2"].isna().all() and data["test_accuracy"].notna().sum() == 36


def test_what_a_probe_measures_within_epochs_is_drawn_too(entry):
    panels = [{"title": "MLP", "models": ["b"]}]
    margin = {"column": "test_margin", "label": "margin"}
    made = drawing.draw(entry("lines", EPOCHS | {"y": [margin, ACCURACY], "panels": panels}))
    above, below = made.figure.axes
    assert above.lines[0].get_xdata().tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert below.lines[0].get_xdata().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0] and len(made.data) == 2 * 9


def test_a_trace_that_cannot_be_read_is_one_line(entry):
    given = entry("lines", EPOCHS)
    path = Path(given["inputs"][0]["files"][0]).with_name("trace.parquet")
    content = path.read_bytes()
    for harmed in (content[:50], b""):
        path.write_bytes(harmed)
        with pytest.raises(RedoubtError, match=r"trace\.parquet: no readable trace .*train the model again"):
            drawing.draw(given)


def test_a_line_through_models_takes_their_last_epoch_and_the_changing_parameter(entry):
    data = drawing.draw(entry("lines", SCATTER)).data
    point = data[(data["model"] == "c") & (data["seed"] == 0)].iloc[0]
    assert (point["c"], point["curve"], point["test_rho_2"]) == (15.0, "one", pytest.approx(0.3))
    assert data[data["model"] == "a"]["curve"].unique().tolist() == ["a"] and len(data) == 3 * 2 + 1
    assert data.loc[data["model"] == "gone", "reason"].tolist() == [REASON]


def test_a_line_through_models_is_drawn_in_the_order_of_the_parameter(entry):
    """Not in that of x, which falls here, and from the means over seeds of both axes; its ends say their parameter."""
    given = SCATTER | {"x": ACCURACY, "y": [RHO_2], "panels": [{"lines": [{"label": "one", "models": ["c", "b"]}]}]}
    (axis,) = drawing.draw(entry("lines", given)).figure.axes
    xs = [0.9 + 0.05 * (1 / (2 + more) + 1 / (2.25 + more)) / 2 for more in (0, 1)]
    assert axis.lines[0].get_xdata().tolist() == pytest.approx(xs) and xs[0] > xs[1]
    assert axis.lines[0].get_ydata().tolist() == pytest.approx([0.1 + 0.1 * 1.125, 0.1 + 0.1 * 2.125])
    assert [text.get_text() for text in axis.texts] == ["$c$=10", "$c$=15"]


def test_a_measure_is_drawn_over_a_parameter_on_a_log_axis(entry):
    given = {"x": {"column": "c", "label": "c", "log": True}, "y": [RHO_2 | {"log": True}], "along": "c"}
    (axis,) = drawing.draw(entry("lines", given | {"panels": [{"lines": THROUGH}]})).figure.axes
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    assert axis.lines[0].get_xdata().tolist() == [10.0, 15.0] and not axis.texts
    (bars,) = axis.containers
    ends = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
    assert np.array(ends) == pytest.approx(np.array([[0.2, 0.225], [0.3, 0.325]]))


@pytest.mark.parametrize("parameters", [EPOCHS, SCATTER], ids=["epochs", "scatter"])
def test_figures_without_any_model_say_why(parameters, entry, tmp_path):
    alone = parameters | {"panels": [{"models": ["gone"]}]}
    (tmp_path / "f.svg").write_bytes(style.picture(drawing.draw(entry("lines", alone)), "svg"))
    assert "not run" in (tmp_path / "f.svg").read_text()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"y": [{"label": "both", "column": "loss", "metric": "accuracy"}]}, "y: give 'both' a metric, or a column"),
        ({"y": [{"label": "one", "metric": "accuracy"}]}, "metrics are those of an attack"),
        ({"panels": [{"attack": "deepfool", "models": ["a"]}]}, "metrics are those of an attack"),
        ({"panels": [{"lines": [{"models": ["a", "b"]}]}]}, "give a line of several models a label"),
        ({"panels": [{"models": ["a", "a"]}]}, "a is there twice; give each line a separate label"),
        ({"panels": []}, "panels"),
    ],
)
def test_lines_that_make_no_sense_are_refused(changes, problem):
    with pytest.raises(RedoubtError, match=problem):
        registry.parameters("artifacts", "lines", EPOCHS | changes)


def test_examples_show_the_first_image_and_what_the_judge_says(entry):
    given = entry("examples", FIGURES["examples"])
    data = drawing.draw(given).data.set_index("model")
    rows = Inputs(ArtifactEntry.parse(given)).rows("a", "deepfool")
    assert data.loc["a", "rho_2"] == pytest.approx(rows["l2"].iloc[0] / 10)
    assert (data.loc["a", "label"], data.loc["a", "adversarial_label"], data.loc["a", "judge"]) == (0, 1, "c")
    assert data.loc["a", "n"] == 30 == len(rows) / 2  # of the first of two runs, which is shown


def test_table_sets_paper_beside_ours(entry):
    columns = [
        {"label": "Acc.", "metric": "accuracy", "attack": "deepfool"},
        {"label": "rho_2", "metric": "norm(order=l2,relative=true)", "attack": "deepfool", "where": {"label": 1}},
    ]
    given = entry("metric-table", {"models": ["a", "gone"], "columns": columns, "show": ["network", "method"]})
    made = drawing.draw(given)
    cells = made.data.set_index(["row", "column"])
    assert cells.loc[("a", "Acc."), "reproduced"] == 1.0 and cells.loc[("a", "Acc."), "n"] == 30
    assert cells.loc[("a", "Acc."), "seeds"] == 2 and cells.loc[("a", "rho_2"), "n"] == 10
    assert cells["verdict"].tolist() == ["undecided", "not-comparable", "not-run", "not-run"]
    assert cells["reason"].tolist()[2:] == [REASON] * 2
    lines = made.text.splitlines()
    assert lines[0] == "# A title" and "_NOT comparable_" in lines
    assert next(line for line in lines if line.startswith("| MLP | Reference")).count("|") == 5
    assert "99.00 % → **100.00 % ± 0.00 %**" in made.text and f"- not run: {REASON}" in lines and "+1.00 %" in made.text


def test_where_that_matches_nothing_is_refused(entry):
    rows = pd.DataFrame({"fraction": [0.2, 0.5]})
    assert len(metric_table.picked(rows, {"fraction": 0.5})) == 1
    with pytest.raises(RedoubtError, match="no attacked image"):
        metric_table.picked(rows, {"fraction": 0.3})


def labels_of_the_studies():
    studies = [read_study(ROOT, path.name) for path in (ROOT / "config/studies").iterdir()]
    models = [raw for study in studies for raw in [*study.baselines.values(), *study.models.values()]]
    return {raw.labels["method"] for raw in models}


def test_looks_of_methods_are_those_of_the_studies_and_differ():
    assert set(LOOKS) <= labels_of_the_studies()
    assert len({str(look) for look in LOOKS.values()}) == len(LOOKS) >= 10


def test_a_new_method_takes_a_look_by_itself_and_leaves_the_others_alone():
    alone = style.methods(["New"], KNOWN)["New"]
    found = style.methods(["PeerNet", "New", "MagNet"], KNOWN)
    assert list(found) == ["PeerNet", "New", "MagNet"] and found["New"] == alone
    assert {found[name]["color"] for name in ("PeerNet", "MagNet")} == {"#0072B2", "#CC79A7"}
    assert alone["color"] not in {look.color for look in KNOWN.values()}
    assert style.methods(["PNI", "L2P"], KNOWN) == style.methods(["L2P", "PNI"], KNOWN)


@pytest.mark.parametrize("count", [6, 12])
def test_new_methods_of_one_figure_have_different_looks(count):
    looks = style.methods([f"Method {number}" for number in range(count)], {})
    assert len({look["color"] for look in looks.values()}) == count
    many = style.methods([*KNOWN, *(f"Method {number}" for number in range(4))], KNOWN)
    colors = [look["color"] for name, look in many.items() if name not in KNOWN]
    assert len({*colors, *(look.color for look in KNOWN.values())}) == 4 + 7


def test_a_figure_shows_a_model_whose_method_is_new(entry):
    given = entry("lines", EPOCHS)
    given["models"]["b"]["labels"]["method"] = "Brand new"
    made = drawing.draw(given)
    assert "Brand new" in [text.get_text() for text in made.figure.legends[0].get_texts()]


def test_lines_over_epochs_shows_the_mean_over_seeds_and_their_range(entry):
    made = drawing.draw(entry("lines", EPOCHS | {"panels": [{"title": "MLP", "models": ["b"]}]}))
    axis = made.figure.axes[1]
    assert axis.lines[0].get_ydata().tolist() == pytest.approx(0.1 + 0.02 * 1.125 * np.arange(6))
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.1, 0.1 + 0.02 * 1.25 * 5))


def test_tables_do_not_depend_on_the_style_of_figures():
    style_of_figures, table = "redoubt.artifacts._style", "redoubt.artifacts.metric_table"
    assert style_of_figures not in closure("redoubt.steps.table", table)
    assert style_of_figures in closure("redoubt.steps.figure", "redoubt.artifacts.lines")


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_no_axis_of_a_picture_magnifies_rounding(scale):
    figure = Figure()
    same, apart = figure.subplots(1, 2)
    values = np.array([0.6, np.float64(np.float32(0.6)), 0.6 * (1 + 1e-7)])
    same.plot(-values, values)
    apart.plot(-values, [0.6, 0.6001, 0.6002])
    for axis in (same, apart):
        axis.set_yscale(scale)
    limits = apart.get_ylim()
    content = style.picture(Drawing(pd.DataFrame(), figure=figure), "svg").decode()
    assert same.get_ylim() == pytest.approx((0.57, 0.63)) and same.get_xlim() == pytest.approx((-0.63, -0.57))
    assert apart.get_ylim() == limits and "1e" not in content.partition("axes_2")[0]


def test_a_label_that_is_no_formula_is_one_line():
    figure = Figure()
    figure.suptitle("$x_{$ and $(touch pwned)$")
    with pytest.raises(RedoubtError, match=r"contains \$\.\.\.\$ that is not valid math text") as caught:
        style.picture(Drawing(pd.DataFrame(), figure=figure), "svg")
    assert "\n" not in str(caught.value)
