"""Mistakes in studies, scales, printed numbers and methods: each is one line with file and key, before any job."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import study_files
import yaml
from pydantic import Field

from redoubt import registry
from redoubt.attacks import fgs
from redoubt.defenses import clean
from redoubt.errors import RedoubtError
from redoubt.files import canonical_json, entry_digest
from redoubt.records import Strict, typed
from redoubt.study import catalog
from redoubt.study.config import Config
from redoubt.study.entries.artifact import ArtifactEntry
from redoubt.study.entries.attack import AttackEntry
from redoubt.study.entries.model import ModelEntry
from redoubt.study.expand import with_groups
from redoubt.study.files import read_study
from redoubt.study.needs import Need
from redoubt.study.reading import merged

ROOT = Path(__file__).resolve().parents[2]
STUDY, OTHER = "deepdefense", "peernets"
SCALE, CHANGES = "config/scales/demo.yaml", "config/scales/demo/deepdefense.yaml"
PRINTED = "config/published/deepdefense.csv"


@pytest.fixture
def tree(tmp_path):
    """A copy of the config that a test may spoil."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def load(tree, *studies, scale="demo"):
    return catalog.load(tree, {"scale": scale, "studies": list(studies or ("deepdefense", "peernets"))}, {})


def error(tree, *studies, scale="demo"):
    with pytest.raises(RedoubtError) as caught:
        load(tree, *studies, scale=scale)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def file_of(name, key):
    """Return a config file: one by its name, or that of a study which has the key."""
    return study_files.file_of(key, name) if name in (STUDY, OTHER) else name


def spoil(tree, name, *path, value):
    """Set a value of a config file or of a study, by its keys; a function changes the one that is there."""
    file = file_of(name, path[0])
    whole = study_files.load(tree / file)
    place = whole
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value(place[path[-1]]) if callable(value) else value
    (tree / file).write_text(yaml.safe_dump(whole, sort_keys=False))


COLUMNS = ("artifacts", "table-1", "parameters", "columns")
CHECKS = ("artifacts", "extra-obfuscation", "parameters", "checks")
MISTAKES = {
    "a metric": (
        (STUDY, *COLUMNS, 0, "metric", "acuracy"),
        "artifacts.table-1.parameters.columns.0.metric: 'acuracy' is not one of accuracy, ",
    ),
    "a metric of checks": (
        (OTHER, *CHECKS, 0, "numbers", 0, "metric", "fooling"),
        "artifacts.extra-obfuscation.parameters.checks.0.numbers.0.metric: 'fooling' is not one of ",
    ),
    "a parameter of a metric": (
        (STUDY, *COLUMNS, 0, "metric", {"name": "accuracy", "at": "night"}),
        "artifacts.table-1.parameters.columns.0.metric: at: 'night': Input should be 'clean' or 'attacked'",
    ),
    "a value that is not swept": (
        (STUDY, *COLUMNS, 3, "where", "fraction", 0.3),
        "artifacts.table-1.parameters.columns.3.where.fraction: 0.3 is not one of 0.2, 0.5, 1, which 'fgs-",
    ),
    "a column that is not swept": (
        (STUDY, *COLUMNS, 3, "where", {"epsilon": 0.2}),
        "parameters.columns.3.where.epsilon: attack 'fgs-reference' sweeps no 'epsilon'; it sweeps fraction",
    ),
    "a column of an attack without a sweep": (
        (STUDY, *COLUMNS, 0, "where", {"epsilon": 0.2}),
        "parameters.columns.0.where.epsilon: attack 'deepfool' sweeps no 'epsilon'; it sweeps nothing",
    ),
    "no value of a sweep": (
        (STUDY, *COLUMNS, 3, "where", {}),
        "columns.3.where: attack 'fgs-reference' sweeps fraction over 3 values; name one, so that an image counts once",
    ),
    "a value that replayed perturbations have not": (
        (OTHER, *CHECKS, -1, "numbers", 0, "where", "rho", 0.5),
        "numbers.0.where.rho: 0.5 is not one of 0.04, 0.08, 0.1, which 'universal-transferred' sweeps",
    ),
    "a sweep of lines": (
        (OTHER, "artifacts", "figure-7", "parameters", "x", "column", "epsilon"),
        "artifacts.figure-7.parameters: attack 'universal-mnist' sweeps no 'epsilon'",
    ),
    "a list that is a group": (
        (STUDY, "lists", {"mnist-mlp": []}),
        "lists.mnist-mlp: study.yaml has a group of this name",
    ),
    "a kind that is not the plot's": (
        (STUDY, "artifacts", "table-1", "kind", "figure"),
        "artifacts.table-1.kind: 'figure': a metric-table is a table",
    ),
    "printed numbers of no artifact": (
        (OTHER, "artifacts", "figure-5", "parameters", "printed", "table-22"),
        "artifacts.figure-5.parameters: printed: 'table-22' is not one of ",
    ),
    "printed numbers of a panel": (
        (OTHER, "artifacts", "figure-7", "parameters", "panels", 0, "printed", "table-33"),
        "artifacts.figure-7.parameters: printed: 'table-33' is not one of ",
    ),
    "a label that is needed": (
        (STUDY, "baselines", "mnist-mlp-reference", "labels", {"dataset": "MNIST", "network": "MLP"}),
        "models.mnist-mlp-reference.labels: 'method' is missing, which table-1 shows",
    ),
    "a label that is shown": (
        (STUDY, "artifacts", "extra-regulariser", "parameters", "show", ["netwrk"]),
        "artifacts.extra-regulariser.parameters.show: none of its models has a label 'netwrk'",
    ),
    "an artifact of a claim": (
        (STUDY, "claims", "claim-9", "checks", 1, "compare", "supp-table-9[a, b] > 0"),
        "claims.claim-9.checks.1: supp-table-9[a, b]: 'supp-table-9' is not one of ",
    ),
    "a row of a claim": (
        (STUDY, "claims", "claim-9", "checks", 1, "compare", "table-1[mnist-mlp, Acc.] > 0"),
        "claims.claim-9.checks.1: table-1[mnist-mlp, Acc.]: table-1 will have no cell where row = mnist-mlp, column",
    ),
    "a column of a claim": (
        (STUDY, "claims", "claim-2", "checks", 0, "compare", "table-1[{net}-deepdefense, Acc] > 0"),
        "column = Acc; its columns are Acc., rho_2",
    ),
    "a key of a claim": (
        (STUDY, "claims", "claim-9", "checks", 1, "compare", "table-1[mnist-mlp-clean, Acc., model=x] > 0"),
        "table-1 has no column 'model'; it has study, artifact, row",
    ),
    "a key too few": (
        (STUDY, "claims", "claim-9", "checks", 1, "compare", "table-1[mnist-mlp-deepdefense] > 0"),
        "table-1[mnist-mlp-deepdefense]: a metric-table is asked for row, column, then name=value",
    ),
    "a plot that no address reads": (
        (OTHER, "claims", "claim-9", "checks", 1, "compare", "figure-1[cifar10-resnet32-peernet, x] > 0"),
        "figure-1[cifar10-resnet32-peernet, x]: a claim reads no numbers of a peer-graph",
    ),
    "what a claim reads": (
        (OTHER, "claims", "claim-12", "checks", 0, "each", "column sign", [["entropi", "<"]]),
        "claims.claim-12.checks.0: extra-localisation[cifar10-resnet32-peernet, entropi, rho=0.04]: extra-localisation",
    ),
    "a swept value of a claim": (
        (OTHER, "claims", "claim-12", "checks", 0, "each", "rho", [0.05]),
        "extra-localisation will have no cell where row = cifar10-resnet32-peernet, rho = 0.05",
    ),
    "several numbers of one address": (
        (OTHER, "claims", "claim-9", "checks", 1, "compare", "figure-7[cifar10-resnet32-none, accuracy] > 0"),
        "figure-7[cifar10-resnet32-none, accuracy]: it names several numbers; add one of ",
    ),
    "several attacks of one address": (
        (
            OTHER,
            "claims",
            "claim-9",
            "checks",
            1,
            "compare",
            "extra-straight-through[mnist-lenet5-peernet, accuracy, epsilon=0.3] > 0",
        ),
        "extra-straight-through[mnist-lenet5-peernet, accuracy, epsilon=0.3]: it names several numbers; add one of ",
    ),
    "the column of a trend": (
        (STUDY, "claims", "claim-7", "checks", 0, "over", "cc"),
        "figure-4 has no column 'cc'; it has panel, curve, model, name, c",
    ),
    "a name without values": (
        (STUDY, "claims", "claim-2", "checks", 0, "each", {}),
        "{net} has no values; give them as each: {net: [...]}",
    ),
    "a comparison": (
        (STUDY, "claims", "claim-9", "checks", 1, "compare", "table-1[mnist-mlp-deepdefense, Acc.] beats 0"),
        "claims.claim-9.checks.1: 'table-1[mnist-mlp-deepdefense, Acc.] beats 0' is no comparison",
    ),
    "a pattern of a scale": (
        (CHANGES, "overrides", 0, "models", ["mnist-*-referenc"]),
        "overrides.0.models: 'mnist-*-referenc' matches none of the models of deepdefense",
    ),
    "a pattern for another study": (
        (CHANGES, "overrides", -1, "attacks", ["universal-mnist"]),
        "attacks: 'universal-mnist' matches none of the attacks of deepdefense",
    ),
    "a pattern of a cut": (
        (CHANGES, "cuts", 0, "models", ["mnist-lenet-deepdefence-*"]),
        "cuts.0.models: 'mnist-lenet-deepdefence-*' matches none of the models",
    ),
    "a pattern of attacks that are cut": (
        (CHANGES, "cuts", 0, "attacks", ["pdg*"]),
        "cuts.0.attacks: 'pdg*' matches none of the attacks",
    ),
    "overrides of all studies": (
        (SCALE, "overrides", []),
        "overrides: unknown key",
    ),
    "an attack and a probe": (
        (STUDY, "attacks", "deepfool", "probe", "timing"),
        "attacks.deepfool: give exactly one of attack, probe",
    ),
    "neither attack nor probe": (
        (STUDY, "attacks", "deepfool", {"space": "preprocessed"}),
        "attacks.deepfool: give exactly one of attack, probe",
    ),
    "a probe of a training": (
        (STUDY, "models", "mnist-mlp-clean", "training", "probes", [{"probe": "rho-3"}]),
        "models.mnist-mlp-clean.training.probes.0.probe: 'rho-3' is not one of ",
    ),
    "no model to craft on": (
        (STUDY, "evaluations", -1, "crafted_on", "nobody"),
        ".crafted_on: 'nobody' is not one of ",
    ),
    "the attacked model to craft on": (
        (STUDY, "evaluations", -1, "crafted_on", "mnist-lenet-reference"),
        ".crafted_on: 'mnist-lenet-reference' is the attacked model itself; leave this key out",
    ),
    "a twin of a model that never draws": (
        (STUDY, "attacks", "deepfool", "score_noise", "none"),
        "score_noise: none of 'deepfool' asks for a random model; 'mnist-mlp-reference' never draws",
    ),
    "a loss that Foolbox does not see": (
        (STUDY, "attacks", "deepfool", {"attack": "deepfool", "engine": "foolbox", "draws": 2}),
        "attacks.deepfool: mean: the engine foolbox sees mean logits or probabilities, not each draw's loss",
    ),
    "a repetition crafted again of which there is one": (
        (STUDY, "attacks", "deepfool", {"attack": "deepfool", "recraft": True}),
        "attacks.deepfool: recraft: needs an attack on each image, and repetitions: 2 or more",
    ),
    "a perturbation for all images crafted again": (
        (STUDY, "attacks", "deepfool", {"attack": "universal", "recraft": True, "repetitions": 2}),
        "attacks.deepfool: recraft: needs an attack on each image, and repetitions: 2 or more",
    ),
    "a group that is not there": (
        (OTHER, "artifacts", "table-4", "parameters", "models", ["$table-4", "$tabel-5"]),
        "artifacts.table-4.parameters.models.1: '$tabel-5': there is no such group; study.yaml has both, both-mnist, ",
    ),
    "a group of no model": (
        (OTHER, "groups", "both", ["cifar10-resnet32-nobody"]),
        "groups.both: 'cifar10-resnet32-nobody' is not one of mnist-lenet5-none, ",
    ),
    "a group that names one below it": (
        (OTHER, "groups", "both", ["$table-4"]),
        "groups.both.0: '$table-4': there is no such group; study.yaml has none",
    ),
    "a group in the place of a text": (
        (OTHER, "artifacts", "table-4", "title", "$both"),
        "artifacts.table-4.title: ['cifar10-resnet32-none', 'cifar10-resnet32-peernet']: Input should be a valid",
    ),
    "other data to craft on": (
        (STUDY, "evaluations", -1, "crafted_on", "cifar10-nin-reference"),
        ".crafted_on: 'cifar10-nin-reference' is trained on digits-rgb, 'mnist-lenet-reference' on digits",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_file_and_key(tree, name):
    (place, *path, value), told = MISTAKES[name]
    spoil(tree, place, *path, value=value)
    message, file = error(tree), file_of(place, path[0])
    assert message.startswith(f"{file}: ") and told in message and len(message) < 1000, message


def test_groups_stand_for_their_models_in_lists_and_alone(tree):
    spoil(tree, OTHER, "groups", value=lambda own: {**own, "four": ["$both", "$both-mnist"]})
    spoil(tree, OTHER, "evaluations", -1, "models", value=["mnist-lenet5-none", "$both"])
    spoil(tree, OTHER, "evaluations", 0, "models", value="$four")
    study = read_study(tree, OTHER)
    both = ["cifar10-resnet32-none", "cifar10-resnet32-peernet"]
    assert study.evaluations[-1].models == ["mnist-lenet5-none", *both]
    assert study.evaluations[0].models == [*both, "mnist-lenet5-none", "mnist-lenet5-peernet"]
    assert study.artifacts["table-2"].parameters["models"] == both


def test_formulas_and_prices_are_no_groups():
    texts = ["$x$", "$\\rho_2$", "costs $both", "$", "$Both"]
    assert with_groups(texts, {"both": ["a"]}, "x") == texts


def test_files_of_a_study_have_known_names_and_only_the_first_must_be_there(tree):
    folder = tree / "config/studies/deepdefense"
    (folder / "claim.yaml").write_text("claims: {}\n")
    assert error(tree) == (
        "config/studies/deepdefense/claim.yaml: no file of a study; these are "
        "study.yaml, models.yaml, attacks.yaml, artifacts.yaml, claims.yaml, ledger.yaml"
    )
    (folder / "claim.yaml").unlink()
    for part in ("claims", "ledger"):
        (folder / f"{part}.yaml").unlink()
    found = load(tree, STUDY)
    assert not found.claims and found.artifacts and not found.studies[STUDY].deviations
    (folder / "study.yaml").unlink()
    assert "studies: 'deepdefense': there is no config/studies/deepdefense/study.yaml" in error(tree)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("table-1,mnist-mlp,Acc.,98.31,percent,", ": table-1 will have no cell where row = mnist-mlp, column = Acc."),
        ("table-1,mnist-mlp-reference,Acc,98.31,percent,", "column = Acc; its columns are Acc., rho_2"),
        ("table-11,mnist-mlp-reference,Acc.,98.31,percent,", ": artifact: 'table-11' is not one of table-1, "),
        (
            "figure-4,mnist-mlp-reference,Acc.,98.31,percent,",
            ": figure-4 has no column 'row'; it has panel, curve",
        ),
        ("table-1,imagenet-resnet18-parseval,Acc.,98.31,percent,", "will have no cell"),
        ("extra-fgs,mnist-mlp-reference,rho_inf,98.31,%,", "unit '%' is not one of plain, "),
        ("extra-fgs,mnist-mlp-reference,rho_inf,98.31,,", "unit '' is not one of plain, "),
        ("extra-deepfool-50,mnist-mlp-reference,fooled,98.31,plain,", "98.31 is no share; is its unit percent?"),
    ],
)
def test_every_printed_number_has_a_cell_and_a_unit(tree, line, told):
    with (tree / PRINTED).open("a") as file:
        file.write(line + "\n")
    message = error(tree)
    assert message.startswith(f"{PRINTED}: ") and told in message, message


def test_a_study_without_its_printed_numbers_is_refused(tree):
    (tree / PRINTED).unlink()
    assert error(tree).startswith(f"{PRINTED}: not readable (No such file or directory)")


def test_a_scale_is_a_file(tree):
    (tree / "config/scales/evening.yaml").write_text((tree / SCALE).read_text())
    assert load(tree, "deepdefense", scale="evening").config.scale == "evening"
    assert error(tree, scale="huge").endswith(
        "scale: 'huge' is not one of demo, evening, gpu, laptop, laptop-jpeg, paper"
    )


def test_what_a_scale_changes_in_one_study_does_not_reach_another(tree):
    before = load(tree, "peernets")
    spoil(tree, CHANGES, "overrides", value=lambda own: [*own, {"models": ["*"], "set": {"seeds": [7]}, "why": "x"}])
    after = load(tree)
    assert all(after.models[key].seeds == model.seeds != (7,) for key, model in before.models.items())
    assert after.models["mnist-mlp-reference"].seeds == (7,)
    (tree / CHANGES).unlink()
    assert load(tree, "deepdefense").models["mnist-mlp-reference"].entry.training.epochs == 20


def test_mappings_by_name_merge_and_those_by_number_are_replaced():
    base = {"training": {"epochs": 5, "drops": {55: 0.1, 75: 0.1}}, "labels": {"a": "b"}}
    change = {"training": {"drops": {7: 0.3}}, "labels": {"c": "d"}}
    assert merged(base, change) == {"training": {"epochs": 5, "drops": {7: 0.3}}, "labels": {"a": "b", "c": "d"}}
    assert merged(base, {"training": {"drops": {}}})["training"]["drops"] == {}


# -- methods that are being written ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = (", "it cannot be imported: SyntaxError: "),
        ("import nothing_of_the_kind", "it cannot be imported: ModuleNotFoundError: "),
        ("class Parameters: pass", "it lacks Defense, DECLARES"),
        (
            "from redoubt.defenses.interface import Declaration as D\nDECLARES = D()",
            "DECLARES: adaptive: give names of ",
        ),
    ],
)
def test_an_unfinished_method_is_one_line(tree, tmp_path, monkeypatch, text, told):
    (tmp_path / "half_done.py").write_text(text)
    monkeypatch.setattr(sys.modules["redoubt.defenses"], "__path__", [str(tmp_path)])
    spoil(tree, STUDY, "models", "mnist-mlp-clean", "defense", value="half-done")
    try:
        with pytest.raises(RedoubtError) as caught:
            registry.method("defenses", "half-done")
        assert f"src/redoubt/defenses/half_done.py: {told}" in str(caught.value)
    finally:
        sys.modules.pop("redoubt.defenses.half_done", None)


def test_the_registry_owns_the_spelling():
    assert registry.module_name("attacks", "few-pixel") == "redoubt.attacks.few_pixel"
    for name in ("few_pixel", "interface", "_losses"):
        with pytest.raises(RedoubtError, match="is not one of"):
            registry.method("attacks", name)
    sources = {path: path.read_text() for path in (ROOT / "src/redoubt").rglob("*.py") if path.name != "registry.py"}
    assert not [path for path, text in sources.items() if '.replace("-", "_")' in text or "replace('-', '_')" in text]


# -- entries -----------------------------------------------------------------------------------------------------------


def test_entries_leave_defaults_out_and_come_back_whole():
    found = load(ROOT)
    for entry in [*(model.entry for model in found.models.values()), *found.attacks.values()]:
        written = json.loads(canonical_json(entry))
        assert type(entry).parse(written) == entry and type(entry).parse(written).dump() == written == entry.dump()
    assert found.attacks["deepfool"].dump() == {
        "id": "deepfool",
        "attack": "deepfool",
        "space": "preprocessed",
        "select": {"images": 100},
    }
    assert found.models["mnist-mlp-clean"].entry.dump()["defense"] == {"name": "clean"}


class More(fgs.Parameters):
    """One more key, with a default."""

    warmth: float = Field(0.5, description="a key that is added later")


class MoreClean(clean.Parameters):
    """One more key, with a default."""

    warmth: float = Field(0.5, description="a key that is added later")


def test_a_new_key_with_a_default_changes_no_entry_and_no_digest(monkeypatch):
    def digests():
        found = load(ROOT)
        entries = {key: model.entry for key, model in found.models.items()} | found.attacks
        entries |= {key: found.artifact_entry(*key) for key in found.artifacts}
        return {key: entry_digest(entry) for key, entry in entries.items()}

    before = digests()
    monkeypatch.setattr(fgs, "Parameters", More)
    monkeypatch.setattr(clean, "Parameters", MoreClean)
    assert registry.parameters("attacks", "fgs", {"error": 0.5}).warmth == 0.5
    assert digests() == before


@pytest.mark.parametrize(
    ("record", "value", "told"),
    [
        (ModelEntry, {"id": "a"}, "--entry: dataset: this key is required"),
        (AttackEntry, {"id": "a", "attack": "pgd", "drws": 1}, "--entry: drws: unknown key"),
        (AttackEntry, ["a"], "--entry: expected a mapping of keys, got list"),
        (AttackEntry, {"id": "a", "attack": "pgd", "draws": 0}, "--entry: draws: 0: "),
    ],
)
def test_an_entry_that_is_none_is_refused_in_one_line(record: Any, value, told):
    with pytest.raises(RedoubtError) as caught:
        record.parse(value)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


def test_an_artifact_is_given_the_parameters_of_its_plot_and_those_of_defenses_that_it_shows():
    entry = load(ROOT).artifact_entry("deepdefense", "figure-4")
    read = ArtifactEntry.parse(json.loads(canonical_json(entry)))
    assert isinstance(read.parameters, registry.method("artifacts", "lines").Parameters)
    assert isinstance(read.parameters, Strict) and read.parameters == entry.parameters
    shown = read.models["mnist-lenet-deepdefense-lambda15-c25"]
    assert shown.parameters == {"c": 25}
    assert read.verdict.rate == 0.01 and "verdict" not in entry.dump()


# -- runs --------------------------------------------------------------------------------------------------------------


def test_examples_of_another_model_are_crafted_on_it(tree):
    transfer = {"attack": "pgd", "models": ["mnist-mlp-clean"], "crafted_on": "mnist-lenet-reference"}
    spoil(tree, STUDY, "evaluations", value=lambda own: [*own, transfer])
    found = load(tree)
    assert found.runs["mnist-mlp-clean", "pgd"].crafted_on == "mnist-lenet-reference"
    assert found.runs["mnist-mlp-reference", "pgd"].crafted_on is None


def test_what_transfers_is_missing_with_its_source(tree):
    spoil(tree, CHANGES, "cuts", value=lambda own: [*own, {"models": ["mnist-lenet-reference"], "why": "cut away"}])
    transfer = {"attack": "pgd", "models": ["mnist-mlp-clean"], "crafted_on": "mnist-lenet-reference"}
    spoil(tree, STUDY, "evaluations", value=lambda own: [*own, transfer])
    found = load(tree)
    assert found.missing(Need("mnist-mlp-clean", "pgd")) == "cut away"
    assert found.missing(Need("mnist-mlp-clean")) is None


def test_a_scale_leaves_out_an_attack_on_some_models_alone(tree):
    cut = {"models": ["mnist-lenet-*"], "attacks": ["pgd", "few-*"], "why": "too dear here"}
    spoil(tree, CHANGES, "cuts", value=lambda own: [*own, cut])
    found = load(tree)
    for attack, reason in (("pgd", cut["why"]), ("few-pixel", cut["why"]), ("universal", None), (None, None)):
        assert found.missing(Need("mnist-lenet-reference", attack)) == reason
    assert found.missing(Need("mnist-mlp-reference", "pgd")) is None
    assert cut["why"] in found.report_entry()["changes"]


def test_a_run_goes_with_the_same_seed_of_its_source_or_with_the_first():
    model = load(ROOT).models["mnist-mlp-reference"]
    several = type(model)(**{**vars(model), "seeds": (3, 1, 4)})
    assert [several.seed_for(seed) for seed in (1, 4, 0)] == [1, 4, 3]


def test_a_long_value_is_shortened_in_its_error():
    with pytest.raises(RedoubtError) as error:
        typed(Config, {"scale": [{"models": ["mnist-*"] * 4, "why": "x" * 30, "set": {"seeds": [0] * 6}}] * 6}, "file")
    assert str(error.value).startswith("file: scale: [") and "…" in str(error.value) and len(str(error.value)) < 300
