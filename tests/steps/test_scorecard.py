"""Scorecard, claims and the keeping of a reference run, from artifacts made up here."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from redoubt.judging.cells import COLUMNS, Cell
from redoubt.rows import write_rows
from redoubt.steps import scorecard
from redoubt.study import catalog
from redoubt.study.published import read_published
from redoubt.tools import reference

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {"scorecard": ".csv", "claims": ".csv", "metrics": ".json"}


@pytest.fixture
def printed(tmp_path, monkeypatch):
    """A folder with one study, in which our numbers of all tables are the printed ones."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    config = tmp_path / "config/config.yaml"
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "studies": ["deepdefense"]}))
    monkeypatch.chdir(tmp_path)
    found = catalog.load(".", {"scale": "paper"})
    published = read_published(tmp_path / "config/published/deepdefense.csv")
    for study, artifact in found.artifacts:
        cells = [
            dict.fromkeys(COLUMNS)
            | {"study": study, "artifact": artifact, "row": row, "column": column, "metric": "norm(order=l2)"}
            | {"published": number.value, "reproduced": number.value, "verdict": "reproduced"}
            for (own, row, column), number in published.items()
            if own == artifact
        ]
        if cells:
            folder = tmp_path / "results/paper" / study
            folder.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(cells, columns=COLUMNS).to_csv(folder / f"{artifact}.csv", index=False)
    return found


def run(tmp_path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    out = [f"--{name}={tmp_path / name}{suffix}" for name, suffix in SUFFIXES.items()]
    change = json.dumps({"scale": "paper"})
    assert scorecard.main(["--config", change, "--results", str(tmp_path / "results/paper"), *out]) == 0
    claims = pd.read_csv(tmp_path / "claims.csv")
    total = claims[(claims["dataset"] == "all") & claims["check"].isna()]
    return pd.read_csv(tmp_path / "scorecard.csv"), total.set_index("claim")


def test_metrics_hold_every_number_by_its_place(printed, tmp_path):
    cells, claims = run(tmp_path)
    found = json.loads((tmp_path / "metrics.json").read_text())
    numbers = [
        value
        for study in found["cells"].values()
        for artifact in study.values()
        for row in artifact.values()
        for value in row.values()
    ]
    assert len(numbers) == len(cells)
    assert found["cells"]["deepdefense"]["table-1"]["mnist-mlp-deepdefense"]["rho_2"] == 0.225
    assert found["verdicts"] == {"reproduced": len(cells)}
    assert found["claims"] == claims["here"].value_counts().to_dict()
    assert found["claims under strong attacks"] == claims["adaptive_verdict"].value_counts().to_dict()


def test_a_cell_without_a_number_is_in_no_metric():
    place = {"study": "s", "artifact": "a", "row": "r", "metric": "norm(order=l2)"}
    cells = [
        Cell(**place, column="x", reproduced=0.5, verdict="deviates"),
        Cell(**place, column="y", verdict="not-run"),
    ]
    assert scorecard.metrics(cells, pd.DataFrame()) == {
        "cells": {"s": {"a": {"r": {"x": 0.5}}}},
        "claims": {},
        "claims under strong attacks": {},
        "verdicts": {"deviates": 1, "not-run": 1},
    }


def test_the_printed_numbers_bear_out_the_claims_that_rest_on_tables(printed, tmp_path):
    cells, claims = run(tmp_path)
    printed_numbers = pd.read_csv(tmp_path / "config/published/deepdefense.csv")
    assert len(cells) == len(printed_numbers) and list(cells.columns) == COLUMNS
    held = ["claim-1", "claim-3", "claim-9"]
    assert claims.loc[held, "published_verdict"].tolist() == ["holds"] * 3
    # Our numbers have no rows of images here, and figures and extra tables are not drawn.
    assert set(claims["verdict"]) == set(claims["here"]) == {"not-run"}
    assert claims.loc["claim-5", "evidence"] == "not run on MNIST"


def attacked(folder, model, wrong):
    """Write rows of 2000 images under DeepFool, the first `wrong` of which every run mislabels without it."""
    labels = np.zeros(2000, dtype=int)
    rows = pd.DataFrame({"index": np.arange(2000), "label": labels, "clean_label": np.arange(2000) < wrong})
    rows = rows.astype(int).assign(adversarial_label=1, l2=1.0, x_l2=2.0)
    for seed in range(5):
        path = folder / f"attacks/{model}/seed-{seed}/deepfool.parquet"
        path.parent.mkdir(parents=True)
        write_rows(rows, path, {"model": model, "shape": "[1]", "classes": "[]"})


@pytest.mark.parametrize(("wrong", "expected"), [(12, "holds"), (20, "undecided"), (60, "fails")])
def test_a_claim_is_decided_by_the_images_behind_its_numbers(wrong, expected, printed, tmp_path):
    """The reference mislabels 20 images; DeepDefense may mislabel two more (a tenth of a point)."""
    folder = tmp_path / "results/paper"
    for network in ("mlp", "lenet"):
        attacked(folder, f"mnist-{network}-reference", 20)
        attacked(folder, f"mnist-{network}-deepdefense", wrong)
    _, claims = run(tmp_path)
    assert claims.loc["claim-2", "published_verdict"] == "undecided"  # it leaves something open
    assert claims.loc["claim-2", "here"] == ("fails" if expected == "fails" else "not-run")  # CIFAR-10 is not here
    rows = pd.read_csv(tmp_path / "claims.csv")
    own = rows[(rows["claim"] == "claim-2") & (rows["dataset"] == "MNIST")]
    part, checks = own[own["check"].isna()].iloc[0], own[own["check"].notna()]
    assert set(checks["here"]) == {expected} and part["n"] == 2000
    assert part["verdict"] == part["here"] == ("undecided" if expected == "holds" else expected)  # it is left open
    assert (part["adjusted"] <= 0.05) == (expected != "undecided")
    assert checks["effect"].tolist() == [pytest.approx((20 - wrong) / 2000 + 0.001)] * 2
    assert checks["check"].iloc[0] == "table-1[mnist-mlp-deepdefense, Acc.] >= [mnist-mlp-reference] - 0.001"
    assert checks["test"].tolist() == ["paired difference of rates"] * 2


def test_a_run_is_kept_with_its_provenance(printed, tmp_path, capsys):
    folder = tmp_path / "logs/benchmarks/paper/defend/mnist-mlp-clean"
    folder.mkdir(parents=True)
    (folder / "seed-0.tsv").write_text("s\th:m:s\n12.34\t0:00:12\n")
    assert reference.main(["--scale", "paper"]) == 0
    out = tmp_path / "results/reference/paper"
    facts = json.loads((out / "provenance.json").read_text())
    assert facts["job_seconds"] == {"defend/mnist-mlp-clean/seed-0": 12.3}
    drawn = [key for key in printed.artifacts if (tmp_path / "results/paper" / "{}/{}.csv".format(*key)).exists()]
    assert facts["drawn"] == ["/".join(key) for key in drawn] and ("deepdefense", "table-1") in drawn
    assert "deepdefense/figure-2" in facts["not_drawn"]
    kept = (out / "deepdefense/table-1.csv").read_bytes()
    assert kept == (tmp_path / "results/paper/deepdefense/table-1.csv").read_bytes()
    assert set(pd.read_csv(out / "claims.csv")["study"]) == {"deepdefense"}
    assert f"kept {len(drawn)} artifacts" in capsys.readouterr().out
