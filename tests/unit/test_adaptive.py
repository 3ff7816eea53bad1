"""The adaptive column: numbers with a known answer, who decided them, and what is left of a claim."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from artifact_entries import artifact_entry

from redoubt.artifacts import _drawing as drawing
from redoubt.errors import RedoubtError
from redoubt.evaluation.run import write_rows
from redoubt.judging import decided
from redoubt.judging.adapted import Adapted
from redoubt.judging.adaptive import adaptive, area_share, decided_by, optimality
from redoubt.judging.cells import Cell
from redoubt.judging.finished import Finished, Printed
from redoubt.report.views import cell_view
from redoubt.study.addresses import Place
from redoubt.study.answers import Answers
from redoubt.study.claims import Comparison, Resolved
from redoubt.study.config import Answer
from redoubt.study.entries.artifact import Answered
from redoubt.study.needs import Run, Sampled

L2, ACCURACY = "norm(order=l2)", "accuracy(at=attacked)"


def rows(norms=(1.0, 2.0, 3.0, 4.0), fooled=(True, True, True, True), by="strong", **columns):
    """Rows of images 0, 1... of label 0; `by` decided those that are fooled."""
    hit = np.array(fooled)
    frame = pd.DataFrame({"index": range(len(hit)), "label": 0, "clean_label": 0, "adversarial_label": hit.astype(int)})
    frame["success"], frame["l2"], frame["x_l2"], frame["seed"] = hit, np.array(norms[: len(hit)]), 1.0, 0
    frame["linf"], frame["x_linf"] = frame["l2"], 1.0
    return frame.assign(decided_by=pd.Series([by if each else None for each in fooled], dtype=object), **columns)


def test_the_optimality_of_an_attack_is_an_area():
    """Largest norm 4: areas (4-1) + (4-2) + (4-3) + 0 = 6 of the worst; twice the norms leave (4-2) + 0 + 0 + 0."""
    worst = rows()
    assert optimality(L2, rows(norms=(2.0, 4.0, 6.0, 8.0)), worst) == pytest.approx(2 / 6)
    assert optimality(L2, worst, worst) == 1.0
    assert optimality(L2, rows(fooled=(True, False, False, True)), worst) == pytest.approx(3 / 6)


def test_the_area_that_an_attack_takes_off_ends_where_the_best_of_all_has_nothing_left():
    inf, best = np.inf, np.array([1.0, 2.0, 3.0, 4.0])
    assert area_share(best, best) == 1.0
    assert area_share(best + 1.0, best) == pytest.approx(3 / 6)
    assert area_share(np.array([1.0, 2.0, inf, 100.0]), best) == pytest.approx(5 / 6)
    assert area_share(np.array([1.0, 3.0, inf]), np.array([1.0, 3.0, 5.0])) == 1.0
    assert area_share(np.array([2.0, inf, inf]), np.array([1.0, 3.0, inf])) == pytest.approx(
        1 / 2
    )  # one withstands all
    assert area_share(np.full(3, inf), best[:3]) == 0.0
    assert area_share(np.full(3, inf), np.full(3, inf)) is None


def test_the_optimality_at_a_fixed_epsilon_is_a_ratio_of_the_fooled():
    worst = rows(fooled=(True, True, True, False))
    assert optimality(ACCURACY, rows(fooled=(True, False, False, False)), worst) == pytest.approx(1 / 3)
    assert optimality(ACCURACY, worst, rows(fooled=(False,) * 4)) is None


def test_only_images_that_both_attacked_and_that_were_right_count():
    worst, own = rows(fooled=(True, True)), rows(fooled=(False, True, True, True))
    assert optimality(ACCURACY, own, worst) == 0.5
    own.loc[0, "clean_label"] = own.loc[0, "adversarial_label"] = 1
    assert optimality(ACCURACY, own, worst) == 1.0
    assert optimality(ACCURACY, own.assign(index=[7, 8, 9, 10]), worst) is None
    with pytest.raises(RedoubtError, match="an image has several rows"):
        optimality(ACCURACY, pd.concat([own, own]), worst)


def test_of_one_size_for_all_the_quotient_counts():
    worst, own = rows(norms=(1.0,) * 4, fooled=(True, True, False, False)), rows(norms=(4.0,) * 4)
    assert optimality(L2, own, worst) == 0.25
    found = adaptive(L2, own, worst, "own")
    assert (found.adaptive, found.adaptive_by, found.adaptive_reason) == (1.0, "strong", None)
    assert "4 of 4 images" in str(adaptive(L2, own, rows(norms=(np.inf,) * 4), "own").adaptive_reason)


def test_who_decided_most_of_what_the_paper_left():
    worst = rows()
    worst["decided_by"] = ["own", "own", "square", "own"]
    assert decided_by(worst, "own") == "square" and decided_by(worst, "other") == "own"
    worst["decided_by"] = [None, "own", None, "own"]
    assert decided_by(worst, "own") == "own"
    assert decided_by(rows(fooled=(False,) * 4), "own") is None


def test_a_norm_is_not_known_where_an_image_withstood_everything():
    worst = rows(fooled=(True, True, False, True))
    found = adaptive(L2, None, worst, "own")
    assert found.adaptive is None and found.adaptive_reason.startswith("1 of 4 images withstood every attack")
    worst.loc[2, "clean_label"] = worst.loc[2, "adversarial_label"] = 1  # it was wrong: nothing is needed
    assert adaptive(L2, None, worst, "own").adaptive == 2.5
    over_fooled = adaptive("norm(order=l2,over=fooled)", None, rows(fooled=(True, True, False, True)), "own")
    assert over_fooled.adaptive == pytest.approx((1 + 2 + 4) / 3)


def test_a_cell_has_number_interval_queries_and_reason():
    worst = rows(fooled=(True, True, True, False), queries=[10, 20, 30, 40])
    found = adaptive(ACCURACY, rows(fooled=(True, False, False, False)), worst, "own")
    assert (found.adaptive, found.adaptive_n, found.queries, found.adaptive_by) == (0.25, 4, 25.0, "strong")
    assert found.adaptive_low < 0.25 < found.adaptive_high and found.optimality == pytest.approx(1 / 3)


def cell(**values):
    known = {"study": "s", "artifact": "t", "row": "a", "column": "c", "metric": "accuracy", "verdict": "deviates"}
    return Cell(**known | values)


@pytest.mark.parametrize(
    ("metric", "strong", "worse"),
    [
        ("accuracy", 0.4, True),
        ("accuracy", 0.6, False),
        (L2, 0.4, True),
        ("fooling-rate", 0.6, True),
        ("fooling-rate", 0.4, False),
        ("error-rate", 0.6, True),
        ("accuracy", None, False),
    ],
)
def test_what_is_worse_for_the_defense(metric, strong, worse):
    found = cell(metric=metric, reproduced=0.5, adaptive=strong, adaptive_by="square", adaptive_low=0.1)
    assert found.worse is worse and bool(cell_view(found)["reproduced"]["worse"]) is worse
    if worse:
        assert "is left by square" in cell_view(found)["reproduced"]["worse"]


# -- tables -----------------------------------------------------------------------------------------------------------


def test_a_table_shows_three_numbers(tmp_path):
    own, worst = tmp_path / "seed-0/own.parquet", tmp_path / "seed-0/worst.parquet"
    own.parent.mkdir()
    facts = {"model": "a", "shape": "[1]", "classes": "[]"}
    write_rows(rows(fooled=(True, False, False, False)).drop(columns=["decided_by", "seed"]), own, facts)
    swept = pd.concat([rows(fooled=(True, more, more, False)).assign(epsilon=0.1 + 0.1 * more) for more in (0, 1)])
    write_rows(swept.drop(columns="seed"), worst, facts)
    published = tmp_path / "published.csv"
    published.write_text("artifact,row,column,value,unit\nx-1,a,Acc.,70.0,percent\n")
    columns = [{"label": name, "metric": ACCURACY, "attack": "own"} for name in ("Acc.", "Other")]
    answer = {"row": "a", "column": "Acc.", "attack": "worst", "where": {"epsilon": 0.2}}
    inputs = [
        {"model": "a", "attack": name, "files": [str(tmp_path / f"seed-0/{name}.parquet")]} for name in ("own", "worst")
    ]
    given = artifact_entry(
        "metric-table",
        {"models": ["a"], "columns": columns, "show": ["method"]},
        {"a": {"method": "A", "dataset": "D", "network": "N"}},
        kind="table",
        inputs=inputs,
        published=str(published),
        adaptive=[answer],
    )
    made = drawing.draw(given)
    first, second = made.data.iloc[0], made.data.iloc[1]
    assert (first["published"], first["reproduced"], first["adaptive"]) == (0.7, 0.75, 0.25)
    assert first["adaptive_by"] == "strong" and first["optimality"] == pytest.approx(1 / 3)
    assert second["reproduced"] == 0.75 and np.isnan(second["adaptive"])
    assert "70.00 % → ~~75.00 %~~ " in made.text and "→ **25.00 %**" in made.text and "struck through" in made.text
    gone = [{**each, "missing": "cut" if each["attack"] == "worst" else None} for each in inputs]
    made = drawing.draw(given | {"inputs": gone})
    assert made.data["adaptive"].isna().all() and made.data["adaptive_reason"].tolist()[0] == "cut"
    assert "struck" not in made.text and "**75.00 %**" in made.text


# -- figures ----------------------------------------------------------------------------------------------------------

FALLS = {"x": {"column": "rho", "label": "rho"}, "y": [{"metric": ACCURACY, "label": "kept", "clean": "accuracy"}]}


def swept(left):
    """Rows of four images, of which a number is left right at each size."""
    parts = [rows(fooled=[place >= right for place in range(4)]).assign(rho=rho) for rho, right in left.items()]
    return pd.concat(parts).drop(columns="seed")


@pytest.fixture
def figure(tmp_path):
    """Lines of a model under an attack that leaves 4, 3 and 2 of 4 images; the worst of several leaves 3 and 1."""
    (tmp_path / "seed-0").mkdir()
    for name, left in {"own": {0.1: 4, 0.2: 3, 0.3: 2}, "worst": {0.2: 3, 0.3: 1}}.items():
        write_rows(swept(left), tmp_path / f"seed-0/{name}.parquet", {"model": "a", "shape": "[1]", "classes": "[]"})
    (tmp_path / "published.csv").write_text("artifact,row,column,value,unit\n")

    def make(missing=None, **panel):
        names = {"own": None, "worst": missing}
        inputs = [
            {"model": "a", "attack": name, "files": [str(tmp_path / f"seed-0/{name}.parquet")], "missing": reason}
            for name, reason in names.items()
        ]
        panels = [{"title": title, "attack": "own", "models": ["a"]} | panel for title in ("One", "Two")]
        answer = {"row": "a", "column": "One/kept", "attack": "worst"}
        labels = {"a": {"method": "A", "dataset": "D", "network": "N"}}
        facts = {"inputs": inputs, "published": str(tmp_path / "published.csv"), "adaptive": [answer]}
        return drawing.draw(artifact_entry("lines", FALLS | {"panels": panels}, labels, **facts))

    return make


def test_what_strong_attacks_leave_is_dashed_beside_the_reproduced_line(figure):
    made = figure()
    assert made.data["reproduced"].tolist() == [1.0, 1.0, 0.75, 0.5] * 2
    assert made.data["adaptive"].fillna(-1).tolist() == [1.0, -1, 0.75, 0.25] + [-1] * 4  # clean images stand
    assert (made.data["adaptive_low"] < made.data["adaptive"])[:4].tolist() == [True, False, True, True]
    one, two = made.figure.axes
    drawn = [line for line in one.lines if line.get_xdata().tolist() == [0.0, 0.2, 0.3]]
    assert [line.get_ydata().tolist() for line in drawn] == [[1.0, 0.75, 0.25]] and drawn[0].is_dashed()
    assert drawn[0].get_color() == one.lines[0].get_color() and one.lines[0].get_ydata().tolist() == [1, 1, 0.75, 0.5]
    assert len(two.lines) < len(one.lines)
    legends = [[text.get_text() for text in axis.get_legend().texts] for axis in (one, two)]
    assert legends == [["N A", "under strong attacks"], ["N A"]]


def test_no_dashed_line_where_strong_attacks_are_cut_or_the_line_is_no_models(figure):
    labelled = {"models": [], "lines": [{"models": ["a"], "label": "b"}]}
    for made in (figure(missing="cut"), figure(**labelled)):
        assert made.data["adaptive"].isna().all() and made.data["reproduced"].notna().all()
        assert "under strong attacks" not in [text.get_text() for text in made.figure.legends[0].texts]


# -- which suite answers what -----------------------------------------------------------------------------------------


def answers(swept, own, columns=("t/PGD*",)):
    runs = {("m", name): Run("m", name) for name in ("pgd", "adaptive-x")}
    sweeps = {"adaptive-x": swept, "pgd": own}
    study = SimpleNamespace(adaptive={"x": Answer(suite="s", models="m", columns=list(columns))})
    return Answers("s", study, runs, lambda run: sweeps[run.attack])


def sampled(where=None, column="PGD 8", model="m"):
    return Sampled({"row": model, "column": column}, model, "pgd", ACCURACY, where or {})


def test_a_column_is_answered_at_its_place_in_the_sweep():
    several = {"epsilon": [0.1, 0.2]}
    assert answers(several, several).answered("t", sampled({"epsilon": 0.2})).where == {"epsilon": 0.2}
    assert answers(several, {"epsilon": [0.1]}).answered("t", sampled()).where == {"epsilon": 0.1}
    assert answers({"epsilon": [0.3]}, {}).answered("t", sampled()).where == {"epsilon": 0.3}
    found = answers({}, several).answered("t", sampled({"epsilon": 0.2}))
    assert (found.row, found.column, found.attack, found.where) == ("m", "PGD 8", "adaptive-x", {})


def test_a_line_is_answered_along_its_sweep():
    along = Sampled({"row": "m", "column": "One/kept"}, "m", "pgd", ACCURACY, {}, "rho")
    sizes = {"rho": [0.1, 0.2]}
    assert answers(sizes, {"rho": [0.1]}, ["f/One/*"]).answered("f", along).where == {}
    both = answers(sizes | {"epsilon": [0.3]}, sizes, ["f/*"]).answered("f", along)
    assert both.where == {"epsilon": 0.3}
    with pytest.raises(RedoubtError, match="'adaptive-x' sweeps no rho"):
        answers({}, sizes, ["f/*"]).answered("f", along)


def test_what_no_suite_answers():
    found = answers({}, {})
    assert found.answered("t", sampled(column="FGSM")) is None and found.answered("u", sampled()) is None
    assert found.answered("t", sampled(model="other")) is None
    with pytest.raises(RedoubtError, match=r"adaptive.x.columns: 't/PGD\*': 'PGD 8' is at no epsilon of 0.1, 0.2"):
        answers({"epsilon": [0.1, 0.2]}, {"epsilon": [0.3]}).answered("t", sampled())
    with pytest.raises(RedoubtError, match=r"adaptive.x.columns: 't/PGD\*' is no column of a table or figure"):
        found.check(["t/FGSM"])


# -- claims -----------------------------------------------------------------------------------------------------------


def place(row, column="PGD", value="reproduced", metric=ACCURACY):
    return Place(f"t[{row}, {column}]", "s", "t", (("row", row), ("column", column)), value, row, "D", "pgd", metric)


@pytest.fixture
def run(tmp_path):
    """Model a withstands PGD and nothing else; b what it withstands; of c no strong attack was run."""
    (tmp_path / "s").mkdir()
    table = pd.DataFrame(
        [(row, "PGD", own, strong) for row, own, strong in (("a", 0.9, 0.1), ("b", 0.5, 0.5), ("c", 0.5, None))]
        + [(row, "FGSM", own, None) for row, own in (("a", 0.9), ("b", 0.5))],
        columns=["row", "column", "reproduced", "adaptive"],
    )
    table.to_csv(tmp_path / "s/t.csv", index=False)
    for row, attack, right in (("a", "pgd", 90), ("b", "pgd", 50), ("a", "strong", 10), ("b", "strong", 50)):
        path = tmp_path / f"attacks/{row}/seed-0/{attack}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = rows(np.ones(100), [place >= right for place in range(100)]).drop(columns="seed")
        write_rows(frame, path, {"model": row, "shape": "[1]", "classes": "[]"})
    found = SimpleNamespace(
        config=SimpleNamespace(scale="demo"),
        scale=SimpleNamespace(comparable=True, stamp=""),
        models={row: SimpleNamespace(seeds=(0,)) for row in "abc"},
        missing=lambda need: "cut" if need.model == "c" else None,
        files_of=lambda need: [f"results/demo/attacks/{need.model}/seed-0/{need.attack}.parquet"],
        answer=lambda asked: (
            Answered(row=asked.model, column="PGD", attack="strong") if dict(asked.where)["column"] == "PGD" else None
        ),
    )
    return Finished(found, tmp_path)


def said(run, *sides):
    """The verdicts on our and on the adaptive numbers of a claim that the first of each pair is the higher one."""
    checks = tuple(Comparison("higher", left, ">", right) for left, right in sides)
    found = decided.rows("s", "claim", Resolved("", "", None, checks), run, Printed({}), Adapted(run))
    return [(row.here, row.adaptive_verdict) for row in found]


def test_a_claim_that_weak_attacks_made_fails_on_the_adaptive_numbers(run):
    assert said(run, (place("a"), place("b"))) == [("holds", "fails")] * 3
    assert Adapted(run).number(place("a")) == 0.1


def test_missing_strong_attacks_and_columns_without_a_suite_are_told_apart(run):
    assert said(run, (place("a"), place("c")))[0] == ("not-run", "not-run")
    other = (place("a", "FGSM"), place("b", "FGSM"))
    assert said(run, other)[0] == ("holds", "not-comparable")
    assert said(run, other, (place("a"), place("b")))[0] == ("holds", "fails")  # what fails, fails


def test_where_no_number_is_under_an_attack_strong_attacks_say_nothing(run):
    """On D the claim is about clean images and times alone; on E it reads a number under PGD too."""
    clean, times = place("a", "FGSM", metric="accuracy"), replace(place("b", "FGSM", metric="time-ratio"), attack=None)
    assert said(run, (clean, times)) == [("holds", "not-comparable")] * 3
    found = said(run, (clean, times), (replace(place("a"), dataset="E"), replace(times, dataset="E")))
    assert found == [("holds", "fails"), *[("holds", "not-comparable")] * 2, *[("holds", "fails")] * 2]


def test_numbers_on_clean_images_stand(run):
    clean = [place(row, "FGSM", metric="accuracy") for row in "ab"]
    found = Adapted(run)
    assert found.number(clean[0]) == 0.9 and found.sample(clean[0]).runs[0].values.mean() == 1.0


def test_without_adaptive_numbers_a_claim_has_no_verdict_on_them(run):
    checks = (Comparison("higher", place("a"), ">", place("b")),)
    found = decided.rows("s", "claim", Resolved("", "", None, checks), run, Printed({}))
    assert [row.adaptive_verdict for row in found] == [None] * 3
