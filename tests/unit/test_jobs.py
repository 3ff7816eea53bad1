"""The list of jobs: one for each run, what each is made from, and which ids a rule admits."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import study_files
import yaml

from redoubt.errors import RedoubtError
from redoubt.graph import code
from redoubt.graph.jobs import NAMES, Jobs
from redoubt.study import catalog
from redoubt.tools import dvc, restore

ROOT = Path(__file__).resolve().parents[2]
TRAINING = {"epochs": 1, "batch_size": 10, "learning_rate": 0.1}


@pytest.fixture
def tree(tmp_path):
    """A copy of the config that a test may change."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    changes = tmp_path / "config/scales/demo/deepdefense.yaml"
    value = yaml.safe_load(changes.read_text())
    value["overrides"] = [change for change in value["overrides"] if "seeds" not in change["set"]]
    changes.write_text(yaml.safe_dump(value))
    return tmp_path


@pytest.fixture
def jobs(tree):
    """Function (further models, attacks and evaluations of the first study) to the jobs."""

    def make(scale="demo", models=None, attacks=None, evaluations=(), **seeds):
        value = study_files.read(ROOT)
        for model, given in seeds.items():
            kind = "baselines" if (key := model.replace("_", "-")) in value["baselines"] else "models"
            value[kind][key]["seeds"] = given
        value["models"] |= {key: {"training": TRAINING, **model} for key, model in (models or {}).items()}
        value["attacks"] |= attacks or {}
        value["evaluations"] += evaluations
        study_files.write(tree, value)
        return Jobs(catalog.load(tree, {"scale": scale}))

    return make


def named(jobs, name):
    """Return the job of this name."""
    return next(job for job in jobs if job.name == name)


def test_a_run_uses_the_run_of_the_same_seed_and_else_the_first(jobs):
    found = jobs(
        mnist_mlp_reference=[4, 7],
        mnist_mlp_clean=[7, 9],
        attacks={"again": {"attack": "fgs", "parameters": {"fractions": [1.0]}, "space": "preprocessed"}},
        evaluations=[
            {"attack": "deepfool", "models": ["mnist-mlp-reference", "mnist-mlp-clean"]},
            {"attack": "fgs-half", "models": ["mnist-mlp-reference"]},
            {
                "attack": "again",
                "models": ["mnist-mlp-clean"],
                "reads": [{"model": "mnist-mlp-reference", "attack": "fgs-half"}],
                "crafted_on": "mnist-mlp-reference",
            },
        ],
    )
    for seed, other in ((7, 7), (9, 4)):
        training = named(found, f"defend/mnist-mlp-clean/seed-{seed}")
        source = f"results/demo/models/mnist-mlp-reference/seed-{other}"
        assert training.inputs["start"] == f"{source}/weights.safetensors"
        attack = named(found, f"attack/mnist-mlp-clean/seed-{seed}/again")
        assert attack.inputs["reads"] == (f"results/demo/attacks/mnist-mlp-reference/seed-{other}/fgs-half.parquet",)
        assert attack.inputs["crafted_on"] == (f"{source}/weights.safetensors", f"{source}/model.json")
        assert attack.inputs["weights"].startswith(f"results/demo/models/mnist-mlp-clean/seed-{seed}/")
    assert not [job.name for job in found if "mnist-mlp-clean/seed-4" in job.name]


def test_every_file_that_a_job_reads_is_written_by_one_before_it(jobs):
    for scale in ("demo", "laptop", "laptop-jpeg", "gpu", "paper"):
        found, written = jobs(scale), set()
        for job in found:
            assert written.issuperset(job.reads()), job.name
            assert not written.intersection(job.outputs), job.name
            written.update(job.outputs)
        assert found.wanted[-1].step == "report" and {job.step for job in found} == set(NAMES)


def test_a_pattern_admits_the_ids_of_jobs_and_no_others(jobs):
    found = jobs(mnist_mlp_clean=[0, 2], evaluations=[{"attack": "deepfool", "models": ["mnist-mlp-clean"]}])
    for step, path, admitted in (
        ("defend", "models/{}/weights.safetensors", "mnist-mlp-clean/seed-2"),
        ("attack", "attacks/{}.parquet", "mnist-mlp-clean/seed-2/deepfool"),
        ("table", "{}.csv", "deepdefense/table-1"),
        ("download", "data/{}/meta.json", "mnist"),
    ):
        first, _, rest = admitted.partition("/")
        pattern = re.compile(path.replace(".", r"\.").format(f"(?P<first>{found.pattern(step)})(?P<rest>.*)") + "$")
        assert pattern.match(path.format(admitted))["first"] == first
        for other in (f"{admitted}0", f"{admitted}-x", f"x{admitted}", f"{first}x/{rest}", admitted.replace("2", "1")):
            assert other == admitted or not pattern.match(path.format(other)), other


def test_models_that_preprocess_alike_share_what_it_learns(jobs):
    found = jobs()
    prepared = [job for job in found if job.step == "prepare"]
    assert 1 < len(prepared) < len(found.catalog.models) / 5
    assert {job.inputs["preprocessing"] for job in found if job.model} == {job.outputs[0] for job in prepared}


def test_a_version_is_of_the_code_that_a_job_runs(jobs):
    fresh = {"defense": "peernet", "parameters": {"after": ["conv1"]}, "dataset": "mnist", "network": "lenet5"}
    found = jobs(models={"fresh": fresh}, evaluations=[{"attack": "deepfool", "models": ["fresh"]}])
    reached = {job.name: set(code.closure(*job.modules)) for job in found}
    parseval = reached["defend/mnist-mlp-parseval/seed-0"]
    assert {"redoubt.steps.train", "redoubt.defenses.parseval", "redoubt.networks.mlp"} <= parseval
    assert not {"redoubt.defenses.deepdefense", "redoubt.networks.lenet", "redoubt.study.catalog"} & parseval
    attack = reached["attack/mnist-mlp-parseval/seed-0/deepfool"]
    assert "redoubt.attacks.deepfool" in attack and "redoubt.defenses.parseval" not in attack
    changed = reached["attack/fresh/seed-0/deepfool"]
    assert {"redoubt.defenses.peernet", "redoubt.networks._peers"} <= changed, "it changes the network"


def test_addresses_are_no_part_of_a_download_and_digests_are(jobs, monkeypatch):
    before = {job.dataset: job.entry for job in jobs() if job.step == "download"}
    source = catalog.sources.SOURCES["fashion-mnist"]
    assert "http" not in json.dumps(before)

    def changed(**fields):
        files = tuple(dataclasses.replace(file, **fields) for file in source.files)
        monkeypatch.setitem(catalog.sources.SOURCES, source.name, dataclasses.replace(source, files=files))
        after = {job.dataset: job.entry for job in jobs() if job.step == "download"}
        return {name for name in before if before[name] != after[name]}

    assert changed(urls=("https://elsewhere.example/file",)) == set()
    assert changed(content_sha256="0" * 64) == {"fashion-mnist"}


def test_every_run_has_a_stage_and_a_target_for_dvc(jobs):
    fresh = {"defense": "bounded-relu", "parameters": {"bound": 2.0}, "dataset": "mnist", "network": "lenet5"}
    evaluations = [{"attack": "deepfool", "models": ["mnist-mlp-clean"]}]
    found = jobs(mnist_mlp_clean=[0, 1], models={"fresh": fresh}, evaluations=evaluations)
    stages, targets = restore.stages(found), dvc.targets(found)
    assert len(stages) == len([job for job in found if job.step != "download"])
    prepared = {name for name in stages if name.endswith(".dvc")}
    assert len(prepared) == len([job for job in found if job.step == "prepare"])
    asked = {"train@fresh-seed-0", "train@mnist-mlp-clean-seed-1", "attack@mnist-mlp-clean-seed-1-deepfool"}
    assert asked <= set(stages)
    assert set(stages) - {"scorecard", "report"} - prepared == {
        f"{kind}@{key}" for kind in targets for key in targets[kind]
    }
    assert targets["train"]["mnist-mlp-clean-seed-1"] == {
        "model": "mnist-mlp-clean",
        "seed": 1,
        "step": "defend",
        "study": "deepdefense",
        "method": "models.mnist-mlp-clean.defense",
        "given": "models.mnist-mlp-clean.defense",  # it has no parameters
        "training": "models.mnist-mlp-clean.training",
    }
    sweep = targets["train"]["mnist-lenet-deepdefense-lambda5-c10-seed-0"]
    assert sweep["given"] == "models.mnist-lenet-deepdefense-lambda{lambda}-c{c}.parameters"  # as the file has it
    assert targets["train"]["mnist-lenet-clean-seed-0"]["training"] == "models.mnist-lenet-{method}.like"


def test_targets_of_another_scale_are_refused(jobs, tree):
    found, fewer = jobs("paper"), jobs("laptop")
    (tree / dvc.TARGETS).write_text(dvc.targets_text(found))
    dvc.check_targets(found)
    dvc.check_targets(fewer)  # runs that a scale does not have are no reason
    (tree / dvc.TARGETS).write_text(dvc.targets_text(fewer))
    reason = r"no train@mnist-mlp-reference-seed-1 \(\d+ runs are missing\); run `python .*--targets --scale paper`$"
    with pytest.raises(RedoubtError, match=reason):
        dvc.check_targets(found)


def test_the_list_imports_no_torch():
    script = (
        "import sys; from redoubt.study import catalog; from redoubt.graph.jobs import Jobs\n"
        "assert Jobs(catalog.load('.', {'scale': 'paper'})).wanted\n"
        "assert not {'torch', 'pandas', 'torchvision', 'foolbox'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={"PYTHONPATH": str(ROOT / "src")}, check=True)


# -- looks ------------------------------------------------------------------------------------------------------------


def test_another_look_of_a_method_draws_the_figures_again_that_show_it(tree):
    before = {job.name: job for job in Jobs(catalog.load(tree))}
    file = tree / "config/looks.yaml"
    text = file.read_text()
    assert "MagNet: {color: " in text
    file.write_text(re.sub(r'MagNet: \{color: "#.{6}"', 'MagNet: {color: "#123456"', text))
    after = {job.name: job for job in Jobs(catalog.load(tree))}
    changed = {name for name in before if before[name] != after[name]}
    assert before.keys() == after.keys()
    shown = {
        job.name
        for job in after.values()
        if job.step == "figure" and "MagNet" in {model["labels"]["method"] for model in job.entry["models"].values()}
    }
    assert changed == shown and "figure/peernets/figure-7" in changed and "figure/deepdefense/figure-2" not in changed


def test_other_shares_of_simulated_worlds_write_the_report_again_and_nothing_else(tree):
    before = {job.name: job for job in Jobs(catalog.load(tree))}
    for file in (tree / "config/worlds").iterdir():
        file.write_text(file.read_text().splitlines()[0])
    after = {job.name: job for job in Jobs(catalog.load(tree))}
    assert {name for name in before if before[name] != after[name]} == {"report"}


def test_the_report_tells_the_entries_of_what_it_shows_and_needs_no_weights(tree, monkeypatch):
    monkeypatch.setattr(Jobs, "_version", lambda *_: "v1")
    before = Jobs(catalog.load(tree)).of("report", {})
    place = tree / "config/scales/demo/peernets.yaml"
    place.write_text(place.read_text().replace("images: 300, track: {images: 50}", "images: 301, track: {images: 50}"))
    after = Jobs(catalog.load(tree)).of("report", {})
    assert before.entry != after.entry
    assert not any("/models/" in file for files in before.inputs.values() for file in files)
    place = tree / "config/studies/peernets/attacks.yaml"
    place.write_text(place.read_text().replace("attacks:\n", "attacks:\n  shown-nowhere: {attack: deepfool}\n", 1))
    assert Jobs(catalog.load(tree)).of("report", {}).entry == after.entry


@pytest.mark.parametrize(
    ("look", "problem"),
    [
        ('{color: blue, marker: o, line: "-"}', "methods.MagNet.color: 'blue': "),
        ('{color: "#123456", marker: heart, line: "-"}', "methods.MagNet.marker: 'heart': "),
        ('{color: "#123456", marker: o}', "methods.MagNet.line: this key is required"),
    ],
)
def test_a_look_that_cannot_be_drawn_is_one_line(tree, look, problem):
    (tree / "config/looks.yaml").write_text(f"methods:\n  MagNet: {look}\n")
    with pytest.raises(RedoubtError, match=rf"^config/looks\.yaml: {re.escape(problem)}"):
        catalog.load(tree)


def test_the_demo_runs_the_strong_attacks_that_it_keeps_and_reads_them_in_tables_and_scorecard():
    """Each once: the worst of several reads files of others, and is read by the table that shows it."""
    found = Jobs(catalog.load(ROOT))
    wanted = {job.name: job for job in found.wanted}
    of = {name: f"attack/mnist-network-proposed/seed-0/adaptive-mnist{name}" for name in ("", "-apgd", "-square")}
    members = {wanted[of[name]].outputs[0] for name in ("-apgd", "-square")}
    assert set(wanted[of[""]].inputs["reads"]) == members
    assert wanted[of[""]].outputs[0] in wanted["table/perceptual_prior/table-1"].inputs["data"]
    assert wanted[of[""]].outputs[0] in wanted["scorecard"].inputs["rows"]
    assert f"{of['']}-apgd-targeted" not in wanted and named(found, f"{of['']}-apgd-targeted")
    assert "attack/mnist-network-pgd/seed-0/adaptive-mnist" not in wanted
