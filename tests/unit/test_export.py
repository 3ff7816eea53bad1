"""A run in the forms that others read: an RO-Crate, summaries of papers, defenses for AutoAdvExBench."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from redoubt.commands import __main__ as command
from redoubt.errors import RedoubtError
from redoubt.files import entry_digest, file_digest, json_text
from redoubt.judging.decided import Row
from redoubt.judging.results import (
    ArtifactFacts,
    AttackFacts,
    Checked,
    Deviates,
    ModelFacts,
    Results,
    StudyResults,
    Traced,
    Trained,
)
from redoubt.layout import preprocessing_file
from redoubt.models.weights import fit_preprocessing, load_model
from redoubt.report import benchmark, crate, reproducibility
from redoubt.study.entries.base import Method

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "results/reference/prior-gpu/models/mnist-network-proposed/seed-0"
MODEL = "mnist-network-proposed"


def cell(column="PGD", artifact="table-1", **more):
    place = {"study": "toy", "artifact": artifact, "row": MODEL, "column": column, "metric": "accuracy(at=attacked)"}
    facts = {"published": 0.8, "reproduced": 0.75, "n": 100, "verdict": "deviates", "model": MODEL, "attack": "pgd"}
    return Traced(**{**place, **facts, "where": {"epsilon": 0.3}, **more})


def claim(key, here, strong="fails", **more):
    said = {"verdict": "not-comparable", "published_verdict": "holds", "here": here, "adaptive_verdict": strong}
    return Row(study="toy", claim=key, statement=f"Statement | {key}.", **said, **more)


def attack(method, space="pixels", threat="l-infinity ball", **parameters):
    return AttackFacts(entry="e", method=method, engine="redoubt", space=space, threat=threat, parameters=parameters)


def model(defense="perceptual-prior", dataset="mnist", weights="ab", missing=None):
    run = Trained(seed=0, weights=weights, versions={"python": "3.11", "torch": "2.13"}, device="cpu")
    place = {"dataset": dataset, "network": "mnist-network", "defense": defense, "start": None, "missing": missing}
    return ModelFacts(entry="e", labels={}, runs=[run], **place)


@pytest.fixture
def found():
    gate = Checked(artifact="gates", model=MODEL, label="Net", check="draws", gate="red")
    study = StudyResults(
        title="A paper",
        reference="A. Author, 2018",
        titles={"claim-1": "First"},
        cells=[
            cell(adaptive=0.5, adaptive_attack="adaptive-linf", adaptive_by="square"),
            cell("same", "table-2", verdict="reproduced"),
            cell("none", reproduced=None, verdict="not-run", reason="cut here"),
            cell("other norm", attack="cw", where={}),
            cell("other space", attack="fgs"),
            cell("twice", not_counted="repeats"),
        ],
        claims=[claim("claim-1", "holds"), claim("claim-2", "fails", None), claim("claim-2", "holds", check="x > y")],
        gates=[gate],
        deviations=[Deviates(topic="Norms", choice="l2", alternatives="")],
        artifacts={
            "table-1": ArtifactFacts(kind="table", plot="p", title="Table 1", entry="e", sha256="cd"),
            "figure-2": ArtifactFacts(kind="figure", plot="p", title="Figure 2", entry="e", sha256=None),
        },
        models={
            MODEL: model(),
            "plain": model("clean"),
            "elsewhere": model(dataset="fashion-mnist"),
            "untrained": model(weights=None, missing="no data"),
        },
        attacks={
            "pgd": attack("pgd", norm="linf", epsilons=[0.1, 0.3]),
            "cw": attack("carlini-wagner", threat="minimum l2"),
            "fgs": attack("fgs", space="preprocessed"),
        },
    )
    return Results(scale="paper", stamp="scale paper", comparable=True, config="c0", studies={"toy": study})


@pytest.fixture
def project(tmp_path, monkeypatch, found):
    """A project whose scale `paper` has results.json, a table, and the weights of one model."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("scale: paper\n")
    folder = tmp_path / "results/paper"
    (folder / "toy").mkdir(parents=True)
    (folder / "results.json").write_text(json_text(found.model_dump(mode="json")))
    for name in ("scorecard.csv", "toy/table-1.csv", "toy/table-1.md"):
        (folder / name).write_text("x\n")
    monkeypatch.chdir(tmp_path)
    return folder


# -- RO-Crate ---------------------------------------------------------------------------------------------------------


def references(value):
    """Yield the ids that an entity refers to."""
    if isinstance(value, dict) and set(value) == {"@id"}:
        yield value["@id"]
    elif isinstance(value, dict):
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


TERMS = re.findall(
    r"\w+",
    "about actionStatus agent author conformsTo contentSize datePublished description encodingFormat endTime hasPart "
    "identifier instrument license mentions name object result softwareVersion url version",
)
"""Of the context of RO-Crate 1.1, which has no others that a crate of ours uses."""


def check(made, folder):
    """Hold metadata to the rules of RO-Crate 1.1 (sections 3 to 5) and of Process Run Crate 0.5."""
    assert made["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    used = {key for entity in made["@graph"] for key in entity if not key.startswith("@")}
    assert used <= {*TERMS, *made["@context"][1]}
    graph = {entity["@id"]: entity for entity in made["@graph"]}
    assert len(graph) == len(made["@graph"]) and all(entity["@type"] for entity in graph.values())
    about = graph["ro-crate-metadata.json"]
    assert about["@type"] == "CreativeWork" and about["about"] == {"@id": "./"}
    assert {"@id": "https://w3id.org/ro/crate/1.1"} in about["conformsTo"]
    root = graph["./"]
    assert root["@type"] == "Dataset" and root["name"] and root["description"] and root["author"]
    assert re.match(r"\d{4}-\d\d-\d\dT", root["datePublished"]) and graph[root["license"]["@id"]]["name"]
    outside = ("https://w3id.org/", "http://schema.org/")
    for entity in graph.values():
        for target in references({key: value for key, value in entity.items() if key != "@id"}):
            assert target in graph or target.startswith(outside), target
    parts = list(references(root["hasPart"]))
    assert sorted(parts) == sorted(name for name, entity in graph.items() if entity["@type"] == "File")
    assert parts and all((folder / name).is_file() for name in parts)
    actions = [graph[action] for action in references(root["mentions"])]
    assert actions
    for action in actions:
        assert action["@type"] == "CreateAction" and {*references(action["result"])} <= {*parts}
        assert graph[action["instrument"]["@id"]]["@type"] == "SoftwareApplication" and action["endTime"]
        assert {graph[person]["@type"] for person in references(action["agent"])} == {"Person"}
        assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
    return graph


def test_a_crate_keeps_the_rules_and_says_what_each_file_is(project, found):
    assert command.main(["export", "crate", "--author", "Ann", "--author", "Bo"]) == 0
    graph = check(json.loads((project / crate.NAME).read_text()), project)
    assert [graph[person]["name"] for person in references(graph["./"]["author"])] == ["Ann", "Bo"]
    table = graph["toy/table-1.csv"]
    assert (table["name"], table["encodingFormat"], table["sha256"]) == ("Table 1", "text/csv", "cd")
    assert "sha256" not in graph["toy/table-1.md"] and "report/index.html" not in graph  # which is not there
    action = graph["#run-toy"]
    assert {each["@id"] for each in action["object"]} == {"#data-mnist", "#data-fashion-mnist"}
    assert {each["@id"] for each in action["result"]} == {"toy/table-1.csv", "toy/table-1.md"}
    assert graph["#redoubt"]["softwareVersion"] and "identifier" not in graph["#redoubt"]  # no checkout
    made = crate.crate(found, project, "1", "abc", ["Ann"], "https://example.org/code")
    software = check(made, project)["https://example.org/code"]
    assert (software["identifier"], software["url"]) == ("git commit abc", software["@id"])
    assert check(made, project)["./"]["author"] == {"@id": "#author-1"}  # one alone is no list


@pytest.mark.parametrize("harm", ["license", "author", "hasPart"])
def test_the_rules_refuse_a_crate_that_lacks_something(harm, project, found):
    made = crate.crate(found, project, "1", None, ["Ann"])
    check(made, project)
    next(each for each in made["@graph"] if each["@id"] == "./").pop(harm)
    with pytest.raises((AssertionError, KeyError)):
        check(made, project)


def test_what_an_export_needs(project, tmp_path):
    with pytest.raises(
        RedoubtError, match=r"demo/results\.json: no results yet; `redoubt run --scale demo` makes them"
    ):
        command.main(["export", "crate", "--scale", "demo"])
    with pytest.raises(RedoubtError, match="--out: the metadata"):
        command.main(["export", "crate", "--out", str(tmp_path)])
    (project / "results.json").write_text('{"format": "redoubt-results-9"}')
    with pytest.raises(RedoubtError, match=r"results\.json: .*redoubt-results-1"):
        command.main(["export", "papers"])


# -- summaries --------------------------------------------------------------------------------------------------------


def test_a_summary_says_what_the_results_say(project, found, capsys):
    assert command.main(["export", "papers"]) == 0
    text = (project / "papers/toy.md").read_text()
    assert capsys.readouterr().out.split() == [str(project / "papers/toy.md")]
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[:5] == ["Scope of reproducibility", "Methodology", "Results", "What was easy", "What was difficult"]
    for line in [
        "2 claims of the paper, decided by tests on 6 printed numbers of tables and on ours; 1 table and 1 figure.",
        "| claim-1 | First | holds | holds | fails |",
        r"| claim-2 | Statement \| claim-2. | holds | fails | not-run |",
        "- Cells: 1 reproduced, 3 deviates, 1 not-run.",
        "- Strong attacks answer 1 cell; 1 are worse than under the paper's own.",
        "- Claims that hold on our numbers: claim-1.",
        "- Tables of which every number is reproduced: table-2.",
        "- Cells that are “deviates”: 3 of table-1.",
        "- Not available: no data (1 model).",
        "- No number in 1 cell: cut here.",
        "- Red gates, so that accuracy under attack shows little: Net: draws.",
        "The paper is silent, ambiguous or not followed in 1 place: Norms.",
    ]:
        assert line in text.splitlines(), line
    assert "3 training runs of 4 declared" in text and "may not be held" not in text
    held = found.model_copy(update={"comparable": False})
    assert "- Numbers of this scale may not be held against the paper's." in reproducibility.page(held, "toy")


# -- AutoAdvExBench ---------------------------------------------------------------------------------------------------


def test_known_attacks_have_a_size_and_a_norm_on_pixels(found):
    made = benchmark.config(found, "toy", "https://example.org/code")
    assert made["docker_env_name"] == "ab-redoubt-toy" and made["github_source"] == "https://example.org/code"
    ((name, own),) = made["defenses"].items()  # not the plain, the untrained, or the one on other data
    assert (name, own["forward"], own["framework"], own["dataset"]) == (
        MODEL,
        "forward_mnist_network_proposed.py",
        "torch",
        "mnist",
    )
    known = own["known_attacks"]
    assert list(known) == ["pgd, 0.3", "adaptive-linf, 0.3"]
    assert all(each["epsilon"] == 0.3 and each["norm"] == "infty" for each in known.values())
    assert [each["robust_accuracy"] for each in known.values()] == [0.75, 0.5]
    assert "square" in known["adaptive-linf, 0.3"]["comment"]


def test_the_forward_file_labels_a_folder_of_images_as_the_model_does(project, tmp_path, capsys):
    place = project / f"models/{MODEL}/seed-0"
    shutil.copytree(WEIGHTS, place)
    facts = json.loads((place / "model.json").read_text())
    entry = facts["entry"]["preprocessing"]
    learned = identity(tmp_path, facts, entry)
    assert command.main(["export", "defenses", "--out", str(tmp_path / "out")]) == 0
    out = tmp_path / "out/toy"
    assert capsys.readouterr().out.split() == [str(out)]
    assert {path.name for path in out.iterdir()} >= {"config.json", "Dockerfile", "redoubt", "weights"}
    assert (out / "redoubt/src/redoubt/__init__.py").is_file() and (out / "redoubt/pyproject.toml").is_file()
    small = (16 * load_digits().images[:5]).clip(0, 255).astype(np.uint8)
    pixels = np.stack([np.asarray(Image.fromarray(picture).resize((28, 28))) for picture in small])
    (out / "images").mkdir()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(out / f"images/{number:04d}.png")
    line = [sys.executable, "forward_mnist_network_proposed.py", "images"]
    done = subprocess.run(line, cwd=out, env={"PYTHONPATH": "redoubt/src"}, capture_output=True, text=True, check=True)
    model, _ = load_model(place / "weights.safetensors", learned, torch.device("cpu"))
    labels = model(torch.from_numpy(pixels)[:, None].float() / 255).argmax(1).tolist()
    assert done.stdout == "\n".join(["Labels", *map(str, labels)]) + "\n" and len(set(labels)) > 1


def identity(root, facts, entry):
    """Write the file of a preprocessing that learns nothing, as the step `prepare` does; return its path."""
    path = root / preprocessing_file("mnist", entry["name"], entry_digest(entry))
    path.parent.mkdir(parents=True)
    _, content = fit_preprocessing(
        Method(**entry), tuple(facts["shape"]), lambda: iter(()), facts["data"]["sha256"]["train"]
    )
    path.write_bytes(content)
    facts["preprocessing"]["sha256"] = file_digest(path)
    place = root / f"results/paper/models/{MODEL}/seed-0/model.json"
    place.write_text(json.dumps(facts))
    return path


class Detecting(torch.nn.Module):
    """Of what it is given, label 1 where the middle is bright; it reports what is bright everywhere, and prints."""

    preprocessing = torch.nn.Identity()

    def __init__(self):
        super().__init__()
        self.network = SimpleNamespace(detects=lambda images: images.mean((1, 2, 3)) > 0.9)

    def forward(self, images):
        print("a warning")
        return torch.stack([0.5 - images[:, 0, 14, 14], images[:, 0, 14, 14] - 0.5], 1)


def test_labels_are_printed_last_and_a_detected_image_has_none(tmp_path, capsys):
    pixels = np.zeros((3, 28, 28), np.uint8)
    pixels[1, 10:20, 10:20], pixels[2] = 255, 255
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    program = {"__name__": "forward", "__file__": str(tmp_path / "forward.py")}
    exec(benchmark.FORWARD, program)
    program["load_model"] = lambda *_: (Detecting(), {"shape": [1, 28, 28]})
    program["main"](tmp_path)
    assert capsys.readouterr().out == "a warning\nLabels\n0\n1\n-1\n"


def test_defenses_that_the_benchmark_cannot_take(project, found):
    study = found.studies["toy"]
    none = study.model_copy(update={"models": {"plain": study.models["plain"]}})
    record = found.model_copy(update={"studies": {"toy": none}})
    (project / "results.json").write_text(json_text(record.model_dump(mode="json")))
    with pytest.raises(RedoubtError, match="no trained defense on mnist, cifar10, imagenet"):
        command.main(["export", "defenses"])
