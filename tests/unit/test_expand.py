"""The language of studies: groups, vary, like and fractions become plain entries, or are refused in one line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import study_files
import yaml

from redoubt.errors import RedoubtError
from redoubt.layout import study_file
from redoubt.study.addresses import read_address
from redoubt.study.config import PARTS
from redoubt.study.expand import expanded, resolved
from redoubt.study.reading import read_yaml

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted(path.name for path in (ROOT / "config/studies").iterdir())
BASE = {"start": "a", "defense": "clean", "training": {"epochs": 2, "drops": {1: 0.5}}, "labels": {"method": "M"}}


def models(entries, **baselines):
    """Return the models of a file, expanded."""
    value = expanded("models", {"baselines": baselines, "models": entries}, "x/models.yaml")
    return value["models"]


def refused(entries):
    with pytest.raises(RedoubtError) as caught:
        models(entries)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- like -------------------------------------------------------------------------------------------------------------


def test_an_entry_like_another_has_its_keys_and_its_own_over_them():
    found = models({"b": BASE, "c": {"like": "b", "training": {"epochs": 3}, "labels": {"name": "N"}}})
    assert found["b"] == BASE
    assert found["c"] == BASE | {
        "training": {"epochs": 3, "drops": {1: 0.5}},
        "labels": {"method": "M", "name": "N"},
    }


def test_the_order_of_entries_does_not_matter_and_chains_end_in_the_first():
    found = models({"d": {"like": "c", "defense": "x"}, "c": {"like": "b", "training": {"drops": {}}}, "b": BASE})
    assert found["d"] == BASE | {"training": {"epochs": 2, "drops": {}}, "defense": "x"}
    assert list(found) == ["d", "c", "b"]


def test_parameters_of_another_method_are_not_taken_over():
    first = BASE | {"defense": "parseval", "parameters": {"share": 0.3}}
    found = models(
        {
            "b": first,
            "same": {"like": "b", "defense": "parseval", "parameters": {"beta": 1}},
            "other": {"like": "b", "defense": "magnet", "parameters": {"std": 1}},
            "none": {"like": "b", "defense": "clean"},
        }
    )
    assert found["same"]["parameters"] == {"share": 0.3, "beta": 1}
    assert found["other"]["parameters"] == {"std": 1} and "parameters" not in found["none"]


def test_runs_are_not_taken_over():
    assert models({"b": BASE | {"seeds": [0, 1]}, "c": {"like": "b"}})["c"] == BASE


def test_a_network_of_another_name_brings_its_own_parameters_only():
    plain = {"dataset": "mnist", "network": {"name": "mlp", "width": 2}, "training": {}}
    found = models(
        {
            "same": {"like": "b", "network": {"depth": 3}},
            "other": {"like": "b", "network": {"name": "nin", "depth": 3}},
        },
        b=plain,
    )
    assert found["same"]["network"] == {"name": "mlp", "width": 2, "depth": 3}
    assert found["other"]["network"] == {"name": "nin", "depth": 3}


def test_a_start_takes_the_place_of_dataset_network_and_preprocessing_and_the_other_way_round():
    plain = {"dataset": "mnist", "network": "mlp", "preprocessing": "identity", "training": {"epochs": 1}}
    found = models({"b": {"like": "a", "start": "a", "defense": "clean"}, "c": {"like": "b", "dataset": "x"}}, a=plain)
    assert found["b"] == {"start": "a", "defense": "clean", "training": {"epochs": 1}}
    assert found["c"] == {"dataset": "x", "defense": "clean", "training": {"epochs": 1}}


# -- vary -------------------------------------------------------------------------------------------------------------


def test_vary_makes_one_entry_for_each_combination_the_last_name_fastest():
    entry = {"vary": {"l": ["x", "y"], "c": [5, 0.5]}, "parameters": {"c": "{c}", "on": ["{l}"]}, "why": "c = {c}"}
    found = models({"m-{l}-c{c}": entry})
    assert list(found) == ["m-x-c5", "m-x-c0.5", "m-y-c5", "m-y-c0.5"]
    assert found["m-y-c0.5"] == {"parameters": {"c": 0.5, "on": ["y"]}, "why": "c = 0.5"}
    assert type(found["m-x-c5"]["parameters"]["c"]) is int


def test_like_names_what_vary_makes_and_may_vary_itself():
    entries = {
        "m-{c}": {"vary": {"c": [1, 2]}, **BASE, "parameters": {"c": "{c}"}},
        "n-{c}": {"vary": {"c": [1, 2]}, "like": "m-{c}", "seeds": [7]},
    }
    assert models(entries)["n-2"] == BASE | {"parameters": {"c": 2}, "seeds": [7]}


def test_braces_of_an_entry_without_vary_are_text():
    assert models({"b": BASE | {"labels": {"name": "{c}"}}})["b"]["labels"]["name"] == "{c}"


MISUSES = {
    "no such entry": ({"b": {"like": "c"}}, "x/models.yaml: models.b.like: 'c': there is no such entry in this file"),
    "a list": ({"b": {"like": ["c"]}}, "models.b.like: ['c']: there is no such entry"),
    "itself": ({"b": {"like": "b"}}, "models.b.like: a circle: b is like b"),
    "a circle": (
        {"b": {"like": "c"}, "c": {"like": "d"}, "d": {"like": "c"}},
        "models.d.like: a circle: b is like c is like d is like c",
    ),
    "a name that vary has not": (
        {"m-{c}": {"vary": {"c": [1]}, "parameters": {"d": "{d}"}}},
        "x/models.yaml: models.m-{c}.parameters.d: {d} is not one of the names there: c",
    ),
    "an id twice": (
        {"m-{c}": {"vary": {"c": [1], "d": [1, 2]}}},
        "models.m-{c}: 'm-1': vary makes it twice; an id is given to one entry of the file only",
    ),
    "an id that another entry has": ({"m-1": BASE, "m-{c}": {"vary": {"c": [1]}}}, "models.m-{c}: 'm-1': "),
    "no lists": ({"m-{c}": {"vary": {"c": 1}}}, "models.m-{c}.vary.c: expected a list of values"),
    "no value": ({"m-{c}": {"vary": {"c": []}}}, "models.m-{c}.vary.c: expected a list of values"),
    "no name": ({"m": {"vary": {}}}, "models.m.vary: expected names, each with a list of values"),
    "a list of lists": ({"m": {"vary": {"c": [[1]]}}}, "models.m.vary.c: [1]: expected one value"),
    "too few together": ({"m": {"vary": {"c d": [[1]]}}}, "models.m.vary.c d: [1]: expected 2 values in a list"),
    "one for two": ({"m": {"vary": {"c d": [1]}}}, "models.m.vary.c d: 1: expected 2 values in a list"),
    "a wrong name": ({"m": {"vary": {"C": [1]}}}, "models.m.vary: 'C': a name is lower-case letters, digits"),
}


@pytest.mark.parametrize("name", MISUSES)
def test_a_misuse_is_one_line_with_file_and_key(name):
    entries, told = MISUSES[name]
    assert told in refused(entries)


def test_an_id_is_of_one_section_only():
    with pytest.raises(RedoubtError, match=r"models\.b: 'b': an id is given to one entry"):
        models({"b": BASE}, b=BASE)


def test_what_is_no_entry_is_left_for_the_check_of_types():
    assert expanded("models", ["a"], "x") == ["a"]
    assert models({"b": 3, "c": BASE}) == {"b": 3, "c": BASE}


# -- each -------------------------------------------------------------------------------------------------------------


def artifact(lists=None, **parameters):
    """Return the parameters of an artifact, expanded."""
    value = {"lists": lists or {}, "artifacts": {"a": {"kind": "table", "parameters": parameters}}}
    return expanded("artifacts", value, "x/artifacts.yaml")["artifacts"]["a"]["parameters"]


def test_each_stands_for_items_in_their_place_names_together_go_together():
    column = {"each": {"at e": [["8", 8 / 255], ["12", 12 / 255]], "by": ["w", "b"]}, "label": "{at} {by}", "e": "{e}"}
    found = artifact(columns=[{"label": "first"}, column, {"label": "last"}])["columns"]
    assert [item["label"] for item in found] == ["first", "8 w", "8 b", "12 w", "12 b", "last"]
    assert [item["e"] for item in found[1:5]] == [8 / 255, 8 / 255, 12 / 255, 12 / 255]


def test_a_value_of_each_may_be_a_mapping():
    metrics = {
        "each": {"label metric": [["a", {"name": "norm", "order": "l2"}]]},
        "label": "{label}",
        "metric": "{metric}",
    }
    assert artifact(columns=[metrics])["columns"] == [{"label": "a", "metric": {"name": "norm", "order": "l2"}}]


def test_each_within_each_has_the_values_of_both():
    inner = {"each": {"box": ["white", "{net}"]}, "label": "{net} {box}"}
    found = artifact(checks=[{"each": {"net": ["A", "B"]}, "title": "of {net}", "numbers": [inner]}])["checks"]
    assert found == [
        {"title": f"of {net}", "numbers": [{"label": f"{net} white"}, {"label": f"{net} {net}"}]} for net in "AB"
    ]


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ({"each": {"e": [1]}, "label": "x"}, "artifacts.a.parameters.columns.0.each: nothing says {e}"),
        ({"each": {"e": [1]}, "label": "{e} {f}"}, "columns.0.label: {f} is not one of the names there: e"),
        ({"each": ["e"], "label": "{e}"}, "columns.0.each: expected names, each with a list of values"),
        ({"each": {"e f": [[1, 2], [3]]}, "label": "{e} {f}"}, "columns.0.each.e f: [3]: expected 2 values in a list"),
    ],
)
def test_a_misused_each_is_one_line_with_file_and_key(item, told):
    with pytest.raises(RedoubtError) as caught:
        artifact(columns=[item])
    assert str(caught.value).startswith("x/artifacts.yaml: artifacts.a.") and told in str(caught.value)


NETS = {"nets": [["A", "net-a"], ["B", "net-b"]], "sizes": [1, 2]}


def test_a_named_list_stands_in_its_place_within_a_list_and_for_values_of_each():
    found = artifact(NETS, rows=["$sizes", 3], all="$sizes", cost="$size", both=["$both"], checks=[
        {"each": {"net model": "$nets"}, "title": "{net} is {model}"},
    ])  # fmt: skip
    assert found["rows"] == [1, 2, 3] and found["all"] == [1, 2]
    assert found["cost"] == "$size" and found["both"] == ["$both"]  # groups are known later
    assert found["checks"] == [{"title": "A is net-a"}, {"title": "B is net-b"}]


def test_use_fills_in_what_is_given_with_it_and_what_is_around_it():
    lists = NETS | {
        "one": [{"label": "{label}", "of": "{model}", "at": "{size}"}],
        "two": [{"use": "one", "size": 7}, {"each": {"size": "{more}"}, "use": "one", "label": "{label} {size}"}],
    }
    numbers = [{"use": "two", "label": "x{net}", "more": "$sizes"}]
    found = artifact(lists, checks=[{"each": {"net model": "$nets"}, "numbers": numbers}])["checks"]
    assert [[(item["label"], item["of"], item["at"]) for item in check["numbers"]] for check in found] == [
        [("xA", "net-a", 7), ("xA 1", "net-a", 1), ("xA 2", "net-a", 2)],
        [("xB", "net-b", 7), ("xB 1", "net-b", 1), ("xB 2", "net-b", 2)],
    ]


@pytest.mark.parametrize(
    ("lists", "item", "told"),
    [
        ({}, {"use": "x"}, "artifacts.a.parameters.columns.0.use: 'x' is not one of no lists"),
        (NETS, {"use": ["nets"]}, "columns.0.use: ['nets'] is not one of nets, sizes"),
        ({"x": ["{a}"]}, {"use": "x", "a": 1, "b": 2}, "columns.0.use: nothing says {b}"),
        ({"x": ["{a}"]}, {"use": "x"}, "columns.0.use.x.0: {a} is not one of the names there: "),
        ({"x": [{"use": "x"}]}, {"use": "x"}, "columns.0.0.use: 'x' is not one of no lists"),
        ({"x": [{"use": "y"}], "y": [1]}, {"use": "x"}, "columns.0.0.use: 'y' is not one of no lists"),
        ({"x": ["{a}"]}, {"each": {"a b": [[1, 2]]}, "use": "x"}, "columns.0.each: nothing says {b}"),
        ({"x": 3}, {"use": "x"}, "x/artifacts.yaml: lists.x: expected a list"),
        ({"x": ["{a}"]}, {"use": "x", "a": 1, 2: 3, "c": 4}, "columns.0.use: nothing says {2}"),
        ({"x": ["{a}", {"use": [1]}]}, {"use": "x", 2: 3}, "columns.0.use: nothing says {2}"),
        ({"X": []}, {}, "x/artifacts.yaml: lists.'X': a name is lower-case letters"),
        ([1], {}, "x/artifacts.yaml: lists: expected names, each with a list"),
    ],
)
def test_a_misused_list_is_one_line_with_file_and_key(lists, item, told):
    with pytest.raises(RedoubtError) as caught:
        artifact(lists, columns=[item])
    assert str(caught.value).startswith("x/artifacts.yaml: ") and told in str(caught.value)


def test_parameters_under_the_name_of_a_plot_say_what_draws_an_artifact():
    entries = {
        "a": {"title": "A", "metric-table": {"models": ["m"], "show": ["network"]}},
        "b": {"like": "a", "metric-table": {"models": ["n"]}},
        "c": {"like": "a", "lines": {"panels": []}},
    }
    found = expanded("artifacts", {"artifacts": entries}, "x")["artifacts"]
    table = {"title": "A", "kind": "table", "plot": "metric-table"}
    assert found["a"] == table | {"parameters": {"models": ["m"], "show": ["network"]}}
    assert found["b"] == table | {"parameters": {"models": ["n"], "show": ["network"]}}
    assert found["c"] == {"title": "A", "kind": "figure", "plot": "lines", "parameters": {"panels": []}}


@pytest.mark.parametrize("more", ["lines", "plot", "parameters", "kind"])
def test_an_artifact_says_once_what_draws_it(more):
    with pytest.raises(RedoubtError, match=r"^x: artifacts\.a: \S+ and \S+: an artifact says once") as caught:
        expanded("artifacts", {"artifacts": {"a": {"checks": {}, more: {}}}}, "x")
    assert more in str(caught.value)


def test_a_group_may_hold_patterns_which_stand_for_models_in_the_order_of_their_file():
    assert resolved({"s": ["b", "m-*"]}, ["m-2", "b", "m-1"], "x") == {"s": ["b", "m-2", "m-1"]}
    with pytest.raises(RedoubtError, match=r"^x\.s: 'n-\*' matches no model of this study$"):
        resolved({"s": ["n-*"]}, ["m-2"], "x")


# -- fractions --------------------------------------------------------------------------------------------------------


def read(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    return read_yaml(tmp_path, "x.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255),
        ("0.5/255", 0.5 / 255),
        ("-1/3", -1 / 3),
        ("+6/3", 2.0),
        ('"8/255"', "8/255"),
        ("50/1 and more", "50/1 and more"),
        ("1/2/3", "1/2/3"),
        ("/255", "/255"),
        ("8 / 255", "8 / 255"),
    ],
)
def test_a_plain_fraction_is_the_nearest_number_and_a_quoted_one_is_text(tmp_path, text, value):
    found = read(tmp_path, f"a: [{text}]\n")["a"][0]
    assert found == value and type(found) is type(value)


def test_a_fraction_with_denominator_0_is_refused_with_its_line(tmp_path):
    with pytest.raises(RedoubtError, match=r"^x\.yaml: line 2: 8/0\.0: the denominator is 0$"):
        read(tmp_path, "a: 1\nb: 8/0.0\n")


def test_a_fraction_in_an_address_is_the_same_number():
    assert read_address("table-1[a, b, epsilon=8/255]").named == (("epsilon", 8 / 255),)


# -- the studies ------------------------------------------------------------------------------------------------------


def files(parts=tuple(PARTS)):
    """Return the files of all studies."""
    return [path for name in STUDIES for part in parts if (path := ROOT / study_file(name, part)).is_file()]


@pytest.mark.parametrize("path", files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_file_of_a_study_fits_its_schema_and_has_no_anchor(path):
    text = path.read_text(encoding="utf-8")
    tokens = [token for token in yaml.scan(text) if isinstance(token, yaml.AnchorToken | yaml.AliasToken)]
    anchors = [f"line {token.start_mark.line + 1}: {token.value}" for token in tokens]
    assert not anchors
    schema = json.loads((ROOT / f"workflow/schemas/{path.stem}.schema.json").read_text())
    found = jsonschema.Draft202012Validator(schema).iter_errors(with_text_keys(yaml.safe_load(text)))
    assert not [f"{list(error.path)}: {error.message:.200}" for error in found]


def with_text_keys(value):
    """Return data as JSON has it: keys are texts."""
    if isinstance(value, dict):
        return {str(key): with_text_keys(part) for key, part in value.items()}
    return [with_text_keys(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_line_of_a_study_is_longer_than_120_characters(path):
    long = [number for number, line in enumerate(path.read_text().splitlines(), 1) if len(line) > 120]
    assert not long


def test_the_sweeps_of_deepdefense_are_those_of_figures_4_and_5():
    ids = study_files.read(ROOT)["models"]
    assert len(ids) < 30
    found = models(ids, **study_files.read(ROOT)["baselines"])
    sweep = [key for key in found if re.fullmatch(r"mnist-lenet-deepdefense-.*-?c\d+", key)]
    assert len(sweep) == 3 * 9 + 4 * 5
    layers = found["mnist-lenet-deepdefense-fc2-c35"]["parameters"]
    assert (layers["lambda"], layers["c"], layers["layers"]) == (15, 35, ["fc2"])


@pytest.mark.parametrize("part", ["models", "attacks", "artifacts", "claims"])
def test_the_command_prints_entries_that_load_to_the_same_study(part):
    command = [sys.executable, "-m", "redoubt.tools.expand", "peernets", part]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env={"PYTHONPATH": "src"})
    printed = yaml.safe_load(done.stdout)
    assert "like:" not in done.stdout and "vary:" not in done.stdout and "$both" not in done.stdout
    assert list(printed) == list(PARTS[part].model_fields)
    assert all(printed.values())
