"""Tables and figures from synthetic rows: same bytes twice, reasons in place of what was not run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from artifact_entries import artifact_entry, needs_of, undrawn
from matplotlib.figure import Figure

from redoubt import registry
from redoubt.artifacts import _drawing as drawing
from redoubt.artifacts import _style as style
from redoubt.artifacts import metric_table
from redoubt.artifacts.interface import Drawing, Inputs
from redoubt.errors import RedoubtError
from redoubt.evaluation.run import write_rows
from redoubt.graph.code import closure
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.files import read_study

ROOT = Path(__file__).resolve().parents[2]
METHODS = {"a": "Reference", "b": "Clean", "c": "DeepDefense", "gone": "Par. Train"}
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
    other = {"epoch": epochs / 2, "step": 5, "probe": "logit-distances", "measure": "test_margin", "value": 1.0}
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


FIGURES = {
    "convergence": {"panels": [{"title": "MLP", "models": ["a", "b", "c", "gone"]}]},
    "sweep": {"along": "c", "curves": [{"label": "one", "models": ["b", "c", "gone"]}], "reference": "a"},
    "examples": {"attack": "deepfool", "replay": "replay", "rows": [
        {"title": "MLP", "models": ["a", "gone"], "judge": "c"}]},
}  # fmt: skip


def test_all_artifacts_are_tested():
    elsewhere = {"agreement", "bars", "checks", "curves", "example-gallery", "universal-gallery", "universal-shape"}
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


def test_convergence_holds_every_epoch_of_every_seed(entry):
    data = drawing.draw(entry("convergence", FIGURES["convergence"])).data
    assert len(data) == 3 * 2 * 6 + 1 and set(data["seed"].dropna()) == {0, 1}
    last = data[(data["model"] == "b") & (data["epoch"] == 5) & (data["seed"] == 0)].iloc[0]
    assert last["test_accuracy"] == pytest.approx(0.925) and last["test_rho_2"] == pytest.approx(0.2)


def test_a_model_without_probes_is_drawn_without_their_measures(entry):
    given = entry("convergence", FIGURES["convergence"])
    for path in Path(given["inputs"][0]["files"][0]).parents[2].rglob("trace.parquet"):
        pd.read_parquet(path).iloc[:0].to_parquet(path)
    data = drawing.draw(given).data
    assert data["test_rho_2"].isna().all() and data["test_accuracy"].notna().sum() == 36


def test_a_trace_that_cannot_be_read_is_one_line(entry):
    given = entry("convergence", FIGURES["convergence"])
    path = Path(given["inputs"][0]["files"][0]).with_name("trace.parquet")
    content = path.read_bytes()
    for harmed in (content[:50], b""):
        path.write_bytes(harmed)
        with pytest.raises(RedoubtError, match=r"trace\.parquet: no readable trace .*train the model again"):
            drawing.draw(given)


def test_sweep_takes_the_last_epoch_and_the_changing_parameter(entry):
    data = drawing.draw(entry("sweep", FIGURES["sweep"])).data
    point = data[(data["model"] == "c") & (data["seed"] == 0)].iloc[0]
    assert (point["c"], point["curve"], point["test_rho_2"]) == (15.0, "one", pytest.approx(0.3))
    assert data[data["model"] == "a"]["curve"].unique().tolist() == ["Reference"]


@pytest.mark.parametrize("plot", ["convergence", "sweep"])
def test_figures_without_any_model_say_why(plot, entry, tmp_path):
    one = {"panels": [{"title": "MLP", "models": ["gone"]}]}
    parameters = one if plot == "convergence" else {"along": "c", "curves": [{"label": "x", "models": ["gone"]}]}
    (tmp_path / "f.svg").write_bytes(style.picture(drawing.draw(entry(plot, parameters)), "svg"))
    assert "not run" in (tmp_path / "f.svg").read_text()


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


def test_every_method_of_the_studies_has_a_look_of_its_own():
    names = labels_of_the_studies()
    assert len(names) >= 5 and names <= set(style.METHODS)
    assert len({str(look) for look in style.METHODS.values()}) == len(style.METHODS)


def test_a_new_method_takes_a_look_by_itself_and_leaves_the_others_alone():
    alone = style.methods(["New"])["New"]
    assert style.methods(["PeerNet", "New", "MagNet"]) == {
        "PeerNet": style.METHODS["PeerNet"], "New": alone, "MagNet": style.METHODS["MagNet"],
    }  # fmt: skip
    assert alone["color"] not in {look["color"] for look in style.METHODS.values()}
    assert style.methods(["PNI", "L2P"]) == style.methods(["L2P", "PNI"])


@pytest.mark.parametrize("count", [6, 12])
def test_new_methods_of_one_figure_have_different_looks(count):
    looks = style.methods([f"Method {number}" for number in range(count)])
    assert len({look["color"] for look in looks.values()}) == count
    many = style.methods([*style.METHODS, *(f"Method {number}" for number in range(4))])
    colors = [look["color"] for name, look in many.items() if name not in style.METHODS]
    assert len({*colors, *(look["color"] for look in style.METHODS.values())}) == 4 + 7


def test_a_figure_shows_a_model_whose_method_is_new(entry):
    given = entry("convergence", FIGURES["convergence"])
    given["models"]["b"]["labels"]["method"] = "Brand new"
    made = drawing.draw(given)
    assert "Brand new" in [text.get_text() for text in made.figure.legends[0].get_texts()]


def test_convergence_shows_the_mean_over_seeds_and_their_range(entry):
    made = drawing.draw(entry("convergence", {"panels": [{"title": "MLP", "models": ["b"]}]}))
    axis = made.figure.axes[1]
    assert axis.lines[0].get_ydata().tolist() == pytest.approx(0.1 + 0.02 * 1.125 * np.arange(6))
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.1, 0.1 + 0.02 * 1.25 * 5))


def test_tables_do_not_depend_on_the_style_of_figures():
    style_of_figures, table = "redoubt.artifacts._style", "redoubt.artifacts.metric_table"
    assert style_of_figures not in closure("redoubt.steps.table", table)
    assert style_of_figures in closure("redoubt.steps.figure", "redoubt.artifacts.convergence")


def test_a_label_that_is_no_formula_is_one_line():
    figure = Figure()
    figure.suptitle("$x_{$ and $(touch pwned)$")
    with pytest.raises(RedoubtError, match=r"contains \$\.\.\.\$ that is not valid math text") as caught:
        style.picture(Drawing(pd.DataFrame(), figure=figure), "svg")
    assert "\n" not in str(caught.value)
