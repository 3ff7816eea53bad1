"""Tables that read the config alone: settings and layers, beside what the paper prints."""

import pandas as pd
import pytest
from artifact_entries import artifact_entry, undrawn

from redoubt import registry
from redoubt.artifacts import _drawing as drawing
from redoubt.artifacts import layer_table
from redoubt.study.entries.model import ModelEntry
from redoubt.study.settings import settings

ENTRY = ModelEntry.parse(
    {
        "id": "m",
        "dataset": "mnist",
        "network": {"name": "convnet", "parameters": {"width": 0.5}},
        "preprocessing": {"name": "mean-image"},
        "defense": {"name": "deepdefense", "parameters": {"c": 7.0}},
        "training": {"epochs": 5, "batch_size": 100, "learning_rate": 0.0005, "drops": {4: 0.5}},
    }
)
PATHS = ["training.epochs", "training.drops", "defense.parameters.c", "defense.parameters.lambda", "defense.beta"]
TABLE = {
    "models": ["a", "b"],
    "columns": [
        {"label": "epochs", "key": "training.epochs"},
        {"label": "rate", "key": "training.learning_rate"},
        {"label": "drops", "key": "training.drops"},
        {"label": "c", "key": "defense.parameters.c"},
    ],
}
LAYERS = {"networks": [{"model": "a", "printed": "Conv-5-32 ReLU Pool-2 FC-10"}, {"model": "b", "printed": "FC-10"}]}


def entry(plot, parameters, tmp_path, own, printed=""):
    labels = {"dataset": "MNIST", "network": "N", "method": "M"}
    given = artifact_entry(plot, parameters, {name: labels | {"network": name} for name in own}, kind="table")
    for name, values in own.items():
        given["models"][name]["settings"] = values
    file = tmp_path / "published.csv"
    file.write_text("artifact,row,column,value,unit\n" + printed)
    return given | {"published": str(file)}


def test_settings_have_their_defaults_and_what_is_not_there_is_left_out():
    assert settings(ENTRY, PATHS) == {
        "training.epochs": 5,
        "training.drops": {"4.0": 0.5},
        "defense.parameters.c": 7.0,
        "defense.parameters.lambda": 15.0,
    }
    assert settings(ENTRY, ["network.layers"])["network.layers"][:3] == [
        ["Conv-5-16", 2],
        ["MaxPool-2", 0],
        ["ReLU", 0],
    ]
    assert settings(ENTRY, ["network.layers"])["network.layers"][-1] == ["Conv-1-10", 0]


def test_a_table_of_settings_beside_the_printed_ones(tmp_path):
    own = {"training.epochs": 5.0, "training.learning_rate": 0.0005, "training.drops": {"4.0": 0.5}}
    models = {"a": own | {"defense.parameters.c": 25.0}, "b": own | {"training.epochs": 3.0}}
    printed = "x-1,a,epochs,5,plain\nx-1,b,epochs,5,plain\nx-1,a,rate,5e-4,plain\n"
    given = entry("settings-table", TABLE, tmp_path, models, printed)
    drawn = drawing.draw(given)
    assert undrawn("settings-table", TABLE, drawn.data) == ([], [])
    assert "| MNIST | a | M | 5 ✓ | 0.0005 ✓ | 4: 0.5 | 25 |" in drawn.text
    assert "| MNIST | b | M | 5 → **3** | 0.0005 | 4: 0.5 |  |" in drawn.text
    cells = drawn.data.set_index(["row", "column"])
    assert cells.loc[("a", "epochs"), "agrees"] is True and cells.loc[("b", "epochs"), "agrees"] is False
    assert cells.loc[("b", "rate"), "agrees"] is None


@pytest.mark.parametrize(
    ("printed", "ours", "expected"),
    [
        ("A B C", "A B C", ["A A", "B B", "C C"]),
        ("A C", "A B C", ["A A", "None B", "C C"]),
        ("A B C", "A C", ["A A", "B None", "C C"]),
        ("A B C", "A X C", ["A A", "B X", "C C"]),
        ("A", "X Y", ["A X", "None Y"]),
        ("A-5-20 B A-5-50", "A-5-8 B A-5-20", ["A-5-20 A-5-8", "B B", "A-5-50 A-5-20"]),
    ],
)
def test_layers_stand_beside_the_printed_ones(printed, ours, expected):
    words = ours.split()
    found = layer_table.beside(printed.split(), words)
    assert [f"{paper} {words[place] if place is not None else None}" for paper, place in found] == expected


def test_a_table_of_layers(tmp_path):
    own = {"a": [["Conv-5-32", 2], ["ReLU", 0], ["Dropout-0.5", 0], ["Pool-2", 0], ["FC-9", 0]], "b": [["FC-10", 0]]}
    given = entry("layer-table", LAYERS, tmp_path, {name: {"network.layers": part} for name, part in own.items()})
    drawn = drawing.draw(given)
    assert undrawn("layer-table", LAYERS, drawn.data) == ([], [])
    lines = drawn.text.splitlines()
    start = lines.index("| a | b |")
    assert lines[start + 2 : start + 7] == [
        "| Conv-5-32, padded by 2 | FC-10 |",
        "| ReLU |  |",
        "| none → **Dropout-0.5** |  |",
        "| Pool-2 |  |",
        "| FC-10 → **FC-9** |  |",
    ]
    assert drawn.data["agrees"].tolist() == [True, True, False, True, False, True]
    assert drawn.data["padding"].tolist() == [2, 0, 0, 0, 0, 0] and pd.isna(drawn.data["published"][2])


def test_they_read_no_model():
    for plot, parameters in (("settings-table", TABLE), ("layer-table", LAYERS)):
        module, options = registry.method("artifacts", plot), registry.parameters("artifacts", plot, parameters)
        assert module.needs(options) == [] and module.models(options) == ["a", "b"]
