"""Evidence of a finished run: numbers from CSV files, samples from rows, and why there are none."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from redoubt.errors import RedoubtError
from redoubt.judging.evidence import NoNumber
from redoubt.judging.finished import Finished, Printed
from redoubt.rows import write_rows
from redoubt.study.addresses import Place
from redoubt.study.published import Published

RHO_INF = "norm(order=linf,relative=true)"

FACTS = {"model": "a", "shape": "[1]", "classes": "[]"}


def place(row="a", column="Acc.", value="reproduced", artifact="table-1", **sample):
    return Place("address", "toy", artifact, (("row", row), ("column", column)), value, row, "MNIST", **sample)


def attacked(wrong, epsilon=None, n=6):
    """Return rows of `n` images of label 0; those of `wrong` are mislabelled."""
    frame = pd.DataFrame({"index": np.arange(n), "label": 0, "clean_label": 0, "rho": 0.1})
    frame.loc[wrong, "clean_label"] = 1
    frame["adversarial_label"], frame["linf"], frame["x_linf"] = frame["clean_label"], 0.5, 1.0 + frame["index"]
    frame["epsilon"] = epsilon if epsilon is not None else np.arange(n) / 10
    return frame


@pytest.fixture
def finished(tmp_path):
    table = pd.DataFrame(
        [
            ("a", "Acc.", 0.9, 0.95, "reproduced", None),
            ("b", "Acc.", None, 0.8, "not-run", "no ImageNet here"),
            ("c", "Acc.", 0.7, 0.8, "not-comparable", "another set of images"),
            ("d", "Acc.", 0.7, None, "not-comparable", "the paper prints no number"),
        ],
        columns=["row", "column", "reproduced", "published", "verdict", "reason"],
    )
    history = pd.DataFrame(
        {
            "model": ["a"] * 4 + ["b"],
            "epoch": [0, 0, 1, 1, None],
            "seed": [0, 1, 0, 1, None],
            "test_images": [10, 10, 10, 10, None],
            "test_accuracy": [0.5, 0.7, 0.8, 0.9, None],
            "rho": [1.0, 3.0, 2.0, 2.0, None],
            "reason": [None] * 4 + ["cut at scale demo"],
        }
    )
    (tmp_path / "toy").mkdir()
    table.to_csv(tmp_path / "toy/table-1.csv", index=False)
    history.to_csv(tmp_path / "toy/figure-1.csv", index=False)
    for seed, wrong in ((0, [1]), (1, [1, 2])):
        for attack, epsilon in (("fgs", 0.5), ("pgd", None)):
            path = tmp_path / f"attacks/a/seed-{seed}/{attack}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_rows(attacked(wrong, epsilon), path, FACTS)
    return Finished(catalog(), tmp_path)


def catalog(comparable=True):
    def files(need):
        return [f"results/demo/attacks/{need.model}/seed-{seed}/{need.attack}.parquet" for seed in (0, 1)]

    return SimpleNamespace(
        config=SimpleNamespace(scale="demo"),
        scale=SimpleNamespace(comparable=comparable, stamp="scale demo: NOT comparable"),
        models={"a": SimpleNamespace(seeds=(0, 1)), "b": SimpleNamespace(seeds=(0, 1))},
        missing=lambda need: "no ImageNet here" if need.model == "imagenet" else None,
        files_of=files,
    )


def epoch(value, column, model="a"):
    return Place("address", "toy", "figure-1", (("model", model), ("epoch", value)), column, model, "MNIST")


def test_numbers_are_those_of_the_csv(finished):
    assert finished.number(place()) == 0.9
    assert finished.number(epoch(0.0, "test_accuracy")) == pytest.approx(0.6)  # the mean over runs


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (place("b"), "no ImageNet here"),
        (place("nobody"), "there is no number at address"),
        (place(artifact="table-9"), "table-9 has not been drawn"),
        (epoch(0.0, "test_accuracy", "b"), "cut at scale demo"),
        (epoch(0.0, "nothing"), "there is no number at address"),
    ],
)
def test_why_there_is_no_number(asked, reason, finished):
    with pytest.raises(NoNumber, match=reason):
        finished.number(asked)


def test_a_broken_file_is_told_in_one_line(finished):
    (finished.results / "toy/table-1.csv").write_text("")
    with pytest.raises(RedoubtError, match=r"table-1\.csv: not readable"):
        finished.number(place())


def test_samples_are_the_values_of_each_run(finished):
    found = finished.sample(place(attack="fgs", metric="accuracy", conditions=(("rho", 0.1),)))
    assert found.rate and sorted(found.runs) == [0, 1]
    assert found.runs[0].values.tolist() == [1, 0, 1, 1, 1, 1] and found.runs[1].values.tolist() == [1, 0, 0, 1, 1, 1]
    assert found.runs[0].images.tolist() == list(range(6))
    found = finished.sample(place(attack="pgd", metric="fooling-rate(over=correct)"))
    assert found.runs[0].images.tolist() == [0, 2, 3, 4, 5]  # the others do not count


def test_why_there_is_no_sample(finished):
    with pytest.raises(NoNumber, match="the rows of fgs on b, seed 0, are not here"):
        finished.sample(place("b", attack="fgs", metric="accuracy"))
    with pytest.raises(NoNumber, match="no ImageNet here"):
        finished.sample(place("imagenet", attack="fgs", metric="accuracy"))
    with pytest.raises(NoNumber, match="no image was fooled"):
        finished.sample(place(attack="pgd", metric="norm(order=linf,over=fooled,scale=255)"))


def test_numbers_without_a_known_sampling_error(finished):
    assert finished.sample(place()) is None  # no metric over rows
    assert finished.sample(place(attack="pgd", metric="largest-epsilon")) is None
    assert finished.sample(place(attack="fgs", metric=RHO_INF)) is None  # one size, found on all images
    assert finished.sample(place(attack="pgd", metric=RHO_INF)) is not None  # a size for each
    assert finished.sample(epoch(0.0, "rho")) is None


def test_a_share_in_a_history_is_a_count(finished):
    found = finished.sample(epoch(0.0, "test_accuracy"))
    assert {seed: run.values.sum() for seed, run in found.runs.items()} == {0: 5, 1: 7}
    assert all(run.images is None and len(run.values) == 10 for run in found.runs.values())


def test_points_of_a_trend_are_means_over_runs(finished):
    asked = Place("address", "toy", "figure-1", (("model", "a"),), "rho", "a", "MNIST")
    assert finished.points(asked, "epoch") == [(0.0, 2.0), (1.0, 2.0)]


def test_what_says_nothing_about_the_paper(finished):
    assert finished.apart(place()) is None and finished.apart(place("d")) is None
    assert finished.apart(place("c")) == "another set of images"
    assert Finished(catalog(comparable=False), finished.results).apart(place()) == "scale demo: NOT comparable"


def test_printed_numbers():
    printed = Printed(
        {("table-1", "a", "Acc."): Published(0.5, 0.005), ("table-1", "e", "Acc."): Published(0.5, 0.005, std=0.1)}
    )
    assert printed.number(place("e", value="std_repetitions")) == 0.1 and printed.number(place("e")) == 0.5
    assert printed.number(place()) == 0.5 and printed.sample(place()) is None and printed.apart(place()) is None
    for asked in (place("b"), place(value="other"), place(value="std_repetitions"), epoch(0.0, "test_accuracy")):
        with pytest.raises(NoNumber, match="the paper prints no number"):
            printed.number(asked)
    with pytest.raises(NoNumber):
        printed.points(place(), "c")
