"""The catalog: entries, overrides, cuts, reasons, code and paths."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import study_files
import yaml

from redoubt import registry
from redoubt.defenses import parseval
from redoubt.errors import RedoubtError
from redoubt.files import entry_digest
from redoubt.study import catalog
from redoubt.study.entries.base import Method
from redoubt.study.needs import Need

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = {"REDOUBT_DATA_MIRROR": str(ROOT / "tests")}  # a folder that holds no dataset


@pytest.fixture
def tree(tmp_path):
    """A copy of the config that a test may spoil."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def spoil(tree: Path, file: str, change) -> None:
    path = tree / file
    value = study_files.read(tree) if file == STUDY else yaml.safe_load(path.read_text())
    change(value)
    if file == STUDY:
        study_files.write(tree, value)
    else:
        path.write_text(yaml.safe_dump(value, sort_keys=False))


def error(tree: Path, **changes) -> str:
    with pytest.raises(RedoubtError) as caught:
        catalog.load(tree, changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


STUDY = "config/studies/deepdefense/"


@pytest.mark.parametrize("scale", ["demo", "laptop", "laptop-jpeg", "gpu", "paper"])
def test_every_artifact_of_every_scale_finds_its_models(scale):
    found = catalog.load(ROOT, {"scale": scale})
    for study, artifact in found.artifacts:
        read = {need.model for need in found.needs(study, artifact)} | {
            *found.artifacts[study, artifact].asked("models")
        }
        assert read and read <= {*found.models} and read == {*found.artifact_entry(study, artifact).models}


def test_demo_needs_no_download():
    found = catalog.load(ROOT, {"scale": "demo"}, OFFLINE)
    reasons = {model.missing for model in found.models.values() if model.missing}
    assert all("cut at scale demo" in reason for reason in reasons)
    assert {model.dataset for model in found.models.values()} == {"digits", "digits-rgb"}


def test_paper_scale_is_the_published_set_up():
    found = catalog.load(ROOT, {"scale": "paper"})
    training = found.models["mnist-mlp-deepdefense"].entry.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (5, 100, 5e-4)
    assert (training.momentum, training.weight_decay, training.drops) == (0.9, 5e-4, {4.0: 0.5})
    defense = found.models["cifar10-nin-deepdefense"].entry.defense
    options = registry.parameters("defenses", defense.name, defense.parameters).model_dump(by_alias=True)
    assert (options["lambda"], options["c"], options["d"]) == (15, 25, 5)
    assert found.models["imagenet-alexnet-deepdefense"].entry.defense.parameters["c"] == 500
    assert all(not own.overrides and not own.cuts for own in found.changes.values())


def test_missing_data_is_told_with_its_reason_and_inherited():
    found = catalog.load(ROOT, {"scale": "paper"}, OFFLINE)
    assert "cifar10" in found.models["cifar10-nin-deepdefense"].missing
    assert "data.imagenet" in found.models["imagenet-resnet18-deepdefense"].missing
    need = Need("cifar10-nin-reference", "fgs-reference")
    assert found.missing(need) == found.models["cifar10-nin-deepdefense"].missing


def test_an_override_changes_its_models_only():
    demo, paper = (catalog.load(ROOT, {"scale": scale}) for scale in ("demo", "paper"))
    changed = demo.models["mnist-lenet-deepdefense-fc1-c5"].entry
    published = paper.models["mnist-lenet-deepdefense-fc1-c5"].entry
    assert changed.training.epochs == 2 and published.training.epochs == 5
    assert changed.training.momentum == published.training.momentum  # merged, not replaced
    assert changed.training.drops == {1.0: 0.5}  # replaced: `drops` is one value, whose keys are numbers
    assert changed.defense == published.defense


def test_reordered_keys_make_the_same_entries(tree):
    before = catalog.load(tree)

    def reverse(value):
        for part in ("baselines", "models", "attacks"):
            for key, entry in value[part].items():
                value[part][key] = dict(reversed(entry.items()))

    spoil(tree, STUDY, reverse)
    after = catalog.load(tree)
    assert {k: entry_digest(m.entry) for k, m in after.models.items()} == {
        k: entry_digest(m.entry) for k, m in before.models.items()
    }
    assert after.attacks == before.attacks


def test_labels_are_not_part_of_what_training_reads(tree):
    before = catalog.load(tree).models["mnist-mlp-clean"].entry
    spoil(tree, STUDY, lambda value: value["models"]["mnist-mlp-clean"]["labels"].update(method="Par. Train"))
    after = catalog.load(tree)
    assert after.models["mnist-mlp-clean"].entry == before
    assert after.models["mnist-mlp-clean"].labels["method"] == "Par. Train"


def put(*path, value):
    def change(tree):
        for key in path[:-1]:
            tree = tree[key]
        tree[path[-1]] = value

    return change


SCRATCH = {
    "dataset": "mnist",
    "network": {"name": "lenet5"},
    "preprocessing": "standardised",
    "defense": "bounded-relu",
    "parameters": {"bound": 2.0},
    "training": {"epochs": 1, "batch_size": 10, "learning_rate": 0.1},
}


def scratch(**changes):
    """Return a change of a study: one more model, made from scratch, with some keys changed, or absent if None."""
    entry = {key: value for key, value in {**SCRATCH, **changes}.items() if value is not None}
    return lambda study: study["models"].update(fresh=entry)


def test_a_defended_model_from_scratch(tree):
    spoil(tree, STUDY, scratch(labels={"method": "BReLU"}, seeds=[3, 4]))
    spoil(tree, STUDY, lambda study: study["evaluations"].append({"attack": "deepfool", "models": ["fresh"]}))
    spoil(
        tree,
        "config/scales/demo.yaml",
        lambda scale: scale.update(networks={"lenet5": {"name": "lenet5", "width": 0.5}}),
    )
    found = catalog.load(tree, {"scale": "demo"})
    model = found.models["fresh"]
    assert (model.step, model.start, model.seeds, model.labels) == ("defend", None, (3, 4), {"method": "BReLU"})
    entry = model.entry
    assert entry.start is None and entry.dataset == "digits"  # the stand-in of this scale
    assert entry.network == Method(name="lenet5", parameters={"width": 0.5})
    assert entry.preprocessing == Method(name="standardised")
    assert entry.defense.name == "bounded-relu" and entry.defense.parameters == {"bound": 2.0}
    assert found.models["mnist-mlp-reference"].step == "pretrain" and found.models["mnist-mlp-clean"].step == "defend"


def test_preprocessing_of_a_model_from_scratch_is_the_identity_unless_given(tree):
    spoil(tree, STUDY, scratch(preprocessing=None))
    assert catalog.load(tree).models["fresh"].entry.preprocessing == Method(name="identity")


def test_data_that_cannot_be_had_leave_out_a_model_from_scratch(tree):
    spoil(tree, STUDY, scratch(dataset="cifar10"))
    found = catalog.load(tree, {"scale": "paper"}, OFFLINE)
    assert found.models["fresh"].missing == found.models["cifar10-nin-reference"].missing is not None


def test_a_defense_that_changes_the_network_says_so_in_its_models(tree):
    spoil(tree, STUDY, scratch())
    spoil(tree, STUDY, lambda study: study["evaluations"].append({"attack": "deepfool", "models": ["fresh"]}))
    found = catalog.load(tree)
    assert found.models["fresh"].entry.defense.changes
    for model in ("mnist-mlp-deepdefense", "mnist-mlp-adversarial", "mnist-mlp-clean", "mnist-mlp-reference"):
        assert not found.models[model].entry.defense.changes


def test_a_random_defense_says_so_in_its_models(tree, monkeypatch):
    assert "draws" not in catalog.load(tree).models["mnist-mlp-parseval"].entry.dump()["defense"]
    monkeypatch.setattr(parseval, "DECLARES", dataclasses.replace(parseval.DECLARES, draws="call"))
    assert catalog.load(tree).models["mnist-mlp-parseval"].entry.defense.draws == "call"


def test_a_changed_network_may_be_the_start_of_its_own_defense_only(tree):
    def more(defense):
        def change(study):
            scratch()(study)
            study["models"]["more"] = {"start": "fresh", "defense": defense, "training": SCRATCH["training"]}

        return change

    spoil(tree, STUDY, more("bounded-relu"))
    assert catalog.load(tree).models["more"].entry.network.name == "lenet5"
    spoil(tree, STUDY, more("parseval"))
    assert "models.more.start: 'fresh' has a network that bounded-relu has changed; parseval cannot" in error(tree)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"start": "mnist-mlp-reference"}, "dataset comes with the start; give start, or dataset and network"),
        ({"start": "mnist-mlp-reference", "dataset": None}, "network comes with the start"),
        ({"start": "mnist-mlp-reference", "dataset": None, "network": None}, "preprocessing comes with the start"),
        ({"network": None}, "this model starts from nothing; give start, or dataset and network"),
        ({"dataset": None}, "this model starts from nothing"),
        ({"dataset": None, "network": None, "preprocessing": None}, "this model starts from nothing"),
    ],
)
def test_a_model_has_a_start_or_is_made_from_scratch(tree, changes, told):
    spoil(tree, STUDY, scratch(**changes))
    assert error(tree).startswith(f"{STUDY}models.yaml: models.fresh: {told}")


def test_a_drop_after_the_end_is_refused_and_a_scale_may_cut_the_schedule_before_it(tree):
    late = {**SCRATCH["training"], "epochs": 2.5, "drops": {2: 0.1, 2.5: 0.1}}
    spoil(tree, STUDY, scratch(training=late))
    assert "models.fresh: training.drops: 2.5 is not before the end, epochs: 2.5" in error(tree)
    spoil(tree, STUDY, scratch(training={**late, "drops": {2: 0.1}}))
    changes = {"overrides": [{"models": ["fresh"], "set": {"training": {"epochs": 1}}, "why": "short"}]}
    place = tree / "config/scales/demo/deepdefense.yaml"
    place.write_text(yaml.safe_dump(changes))
    assert catalog.load(tree).models["fresh"].entry.training.epochs == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"defense": "deepdefense", "parameters": {}}, "start: this key is required; deepdefense starts from another"),
        ({"dataset": "mnst"}, "dataset: 'mnst' is not one of "),
        ({"network": "lenet6"}, "network: 'lenet6' is not one of "),
        ({"network": {"name": "resnet-cifar", "depth": 31}}, "network.depth: 31: must be 6n + 2"),
        ({"preprocessing": "whitend"}, "preprocessing: 'whitend' is not one of "),
        ({"parameters": {"bound": 0}}, "parameters.bound: 0: "),
    ],
)
def test_a_mistake_in_a_model_from_scratch_is_told_with_its_key(tree, changes, told):
    spoil(tree, STUDY, scratch(**changes))
    assert f"models.fresh.{told}" in error(tree, scale="paper")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            put("models", "mnist-mlp-deepdefense", "defense", value="deepdefence"),
            "models.mnist-mlp-deepdefense.defense: 'deepdefence' is not one of adv-bnn, ",
        ),
        (put("models", "mnist-mlp-clean", "start", value="nobody"), "models.mnist-mlp-clean.start: 'nobody'"),
        (put("models", "mnist-mlp-clean", "trainin", value=1), "models.mnist-mlp-clean.trainin: unknown key"),
        (put("models", "mnist-mlp-clean", "training", "epochs", value=-1), "training.epochs: -1"),
        (
            put("models", "mnist-mlp-deepdefense", "parameters", "c", value="x"),
            "mnist-mlp-deepdefense.parameters.c: 'x'",
        ),
        (put("models", "mnist-mlp-deepdefense", "parameters", "cc", value=1), "parameters.cc: unknown key"),
        (put("baselines", "mnist-mlp-reference", "dataset", value="mnst"), "mnist-mlp-reference.dataset: 'mnst'"),
        (put("baselines", "mnist-mlp-reference", "network", value="mpl"), "mnist-mlp-reference.network: 'mpl'"),
        (put("attacks", "deepfool", "attack", value="deepfol"), "attacks.deepfool.attack: 'deepfol'"),
        (put("attacks", "replay-example", "engine", value="foolbox"), "attacks.replay-example.engine: replay runs on"),
        (put("attacks", "fgs-half", "space", value="pixels"), "reads.attack: 'fgs-half' is in space pixels"),
        (put("evaluations", 0, "attack", value="none"), "evaluations.0.attack: 'none'"),
        (put("evaluations", 0, "models", value=["zzz*"]), "evaluations.0.models: 'zzz*' matches no model"),
        (put("artifacts", "figure-2", "plot", value="pie"), "artifacts.figure-2.plot: 'pie'"),
        (
            put("artifacts", "supp-table-1", "parameters", "models", value=["nobody"]),
            "supp-table-1.parameters: 'nobody'",
        ),
        (
            put("claims", "claim-9", "checks", 1, "compare", value="table-9[a, b] > 0"),
            "claims.claim-9.checks.1: table-9",
        ),
    ],
)
def test_a_mistake_is_told_with_file_and_key(tree, change, told):
    spoil(tree, STUDY, change)
    message = error(tree)
    assert message.startswith(STUDY)
    assert told.split(":")[0] in message and told.split(": ")[-1] in message


def test_a_key_given_twice_is_refused(tree):
    path = tree / "config/config.yaml"
    path.write_text(path.read_text() + "\nscale: paper\n")
    line = len(path.read_text().splitlines())
    assert error(tree) == f"config/config.yaml: line {line}: key 'scale' is given twice"


def test_unknown_scale_and_study(tree):
    assert "scale" in error(tree, scale="huge")
    assert "there is no config/studies/nothing/study.yaml" in error(tree, studies=["nothing"])


def test_building_the_catalog_imports_no_torch():
    script = "import sys; from redoubt.study import catalog; catalog.load('.', {'scale': 'paper'});"
    script += "print([name for name in ('torch', 'pandas', 'torchvision', 'foolbox') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
    )
    assert done.stdout.strip() == "[]"


def test_names_and_methods():
    assert "adversarial-training" in registry.names("defenses")
    with pytest.raises(RedoubtError, match="'nothing' is not one of"):
        registry.method("attacks", "nothing")
