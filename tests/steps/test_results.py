"""results.json: what a run says as data, with where it comes from."""

import hashlib
import json
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from redoubt.errors import RedoubtError
from redoubt.files import entry_digest
from redoubt.judging.cells import Cell
from redoubt.judging.decided import Row
from redoubt.judging.tables import frame
from redoubt.steps import report
from redoubt.study import catalog
from redoubt.tools import reference

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "workflow/schemas/results.schema.json").read_text())
PLACE = {"study": "deepdefense", "artifact": "table-1", "row": "mnist-mlp-deepdefense", "column": "rho_2"}
CELL = Cell(
    **PLACE,
    metric="norm(order=l2,relative=true)",
    published=0.225,
    reproduced=0.25,
    ci_low=0.24,
    ci_high=0.26,
    adaptive=0.2,
    n=200,
    seeds=1,
    verdict="not-comparable",
)
CLAIM = Row(
    study="deepdefense",
    claim="claim-1",
    verdict="not-comparable",
    here="holds",
    published_verdict="holds",
    adaptive_verdict="fails",
)
MODEL = {
    "sha256": "ab" * 32,
    "data": {"name": "digits", "sha256": {"train": "cd" * 32, "test": "ef" * 32}},
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "device": "cpu",
    "threads": 1,
}
GATE = "model,label,check,gate,value,ci_low,ci_high,allowed,p,n,reason\nmlp-x,MLP,draws,red,0.5,0.4,0.6,0.9,0.0,60,\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with one study, of which one cell, one claim, one gate and one model are there."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    config = tmp_path / "config/config.yaml"
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "studies": ["deepdefense"]}))
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results/demo"
    model = results / "models/mnist-mlp-deepdefense/seed-0"
    for path in (results / "deepdefense", model):
        path.mkdir(parents=True)
    (model / "model.json").write_text(json.dumps(MODEL))
    (results / "deepdefense/gates.csv").write_text(GATE)
    texts = {
        "scorecard": frame(Cell, [CELL]),
        "deepdefense/table-1": frame(Cell, [CELL]),
        "claims": frame(Row, [CLAIM]),
    }
    for name, table in texts.items():
        table.to_csv(results / f"{name}.csv", index=False)
    return results


def record(folder):
    path = folder / "results.json"
    papers = folder / "report/papers.md"
    options = ["--config", '{"scale": "demo"}', "--results", str(folder), "--record", str(path)]
    assert report.main([*options, "--papers", str(papers)]) == 0
    assert papers.read_text().startswith("# Reproducibility summary: DeepDefense")
    return json.loads(path.read_text())


def test_the_three_columns_claims_and_gates_are_there_and_the_schema_knows_them(folder):
    found = record(folder)
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    study = found["studies"]["deepdefense"]
    (cell,) = study["cells"]
    assert (cell["published"], cell["reproduced"], cell["adaptive"]) == (0.225, 0.25, 0.2)
    assert (cell["ci_low"], cell["ci_high"], cell["run_seeds"]) == (0.24, 0.26, [0])
    (claim,) = study["claims"]
    assert [claim[name] for name in ("published_verdict", "here", "adaptive_verdict")] == ["holds", "holds", "fails"]
    assert [(gate["artifact"], gate["check"], gate["gate"]) for gate in study["gates"]] == [("gates", "draws", "red")]
    assert {each["topic"] for each in study["deviations"]} and found["comparable"] is False


def test_a_cell_leads_to_its_models_attacks_and_files(folder):
    study, known = record(folder)["studies"]["deepdefense"], catalog.load(".", {"scale": "demo"})
    (cell,) = study["cells"]
    assert (cell["model"], cell["attack"], cell["adaptive_attack"]) == (
        "mnist-mlp-deepdefense",
        "deepfool",
        "adaptive-rho-2",
    )
    model = study["models"][cell["model"]]
    assert model["entry"] == entry_digest(known.models[cell["model"]].entry) and model["defense"] == "deepdefense"
    (run,) = model["runs"]
    assert (run["weights"], run["data"]["test"]) == ("ab" * 32, "ef" * 32)
    assert cell["where"] == {} and study["attacks"]["deepfool"]["parameters"]["iterations"] == 5
    assert {study["attacks"][cell[name]]["method"] for name in ("attack", "adaptive_attack")} == {
        "deepfool",
        "worst-of",
    }
    text = (folder / "deepdefense/table-1.csv").read_bytes()
    assert study["artifacts"]["table-1"]["sha256"] == hashlib.sha256(text).hexdigest()
    assert study["artifacts"]["figure-2"]["sha256"] is None  # it is not drawn
    assert study["models"]["mnist-mlp-reference"]["runs"][0]["weights"] is None  # it is not trained


def test_the_schema_refuses_what_is_no_result(folder):
    found = record(folder)
    found["studies"]["deepdefense"]["cells"][0]["verdict"] = "wrong"
    with pytest.raises(jsonschema.ValidationError, match="wrong"):
        jsonschema.validate(found, SCHEMA)


def test_a_broken_table_of_gates_is_named(folder):
    (folder / "deepdefense/gates.csv").write_text(GATE.replace("red", "purple"))
    with pytest.raises(RedoubtError, match=r"gates\.csv: row 1: gate: 'purple'"):
        record(folder)


def test_a_kept_run_has_what_it_says_as_data_of_the_studies_that_are_drawn(folder, tmp_path):
    config = tmp_path / "config/config.yaml"
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "studies": ["deepdefense", "peernets"]}))
    known = catalog.load(".", {"scale": "demo"})
    drawn = reference.keep(known, tmp_path / "kept")
    assert drawn == ["deepdefense/table-1", "deepdefense/gates"]
    text = (tmp_path / "kept/results.json").read_text()
    kept = json.loads(text)
    jsonschema.validate(kept, SCHEMA)
    assert list(kept["studies"]) == ["deepdefense"] and kept["format"] == "redoubt-results-1"
    (cell,) = kept["studies"]["deepdefense"]["cells"]
    assert (cell["published"], cell["reproduced"], cell["adaptive"]) == (0.225, 0.25, 0.2)
    assert kept["config"] == json.loads((tmp_path / "kept/provenance.json").read_text())["config_hash"]
    assert "reason" not in cell and not text.count("\n  ")  # neither nulls that the schema has as defaults nor layout
