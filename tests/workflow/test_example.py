"""The example of a study outside the repository, run from its own folder; then one key of it is changed."""

import pytest
from redoubt_tree import Tree, tracked_copy


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example after a run at scale demo."""
    tree = Tree(tracked_copy(tmp_path_factory.mktemp("example") / "redoubt").folder / "examples/trades")
    tree.run("env", "PYTHONPATH=../../src", "python", "-m", "redoubt.commands", "run", "--cores", "1")
    return tree


def planned(tree):
    return tree.planned("-s", "../../Snakefile")


def test_the_example_runs_and_trades_withstands_more(example):
    rows = [line.split(",") for line in example.read("results/demo/trades/table-5-mnist.csv").splitlines()]
    column = rows[0].index("reproduced")
    attacked = {row[2]: float(row[column]) for row in rows[1:] if "Acc. under PGD" in row}
    assert attacked["mnist-cnn-trades-6"] > attacked["mnist-cnn-normal"] + 0.2
    assert "99.48" in example.read("results/demo/trades/table-5-mnist.md")


def test_a_changed_key_reruns_its_dependents_alone(example):
    assert not planned(example)
    text = example.replace("scales/demo.yaml", "steps: 8", "steps: 9")
    assert planned(example) == {"attack": 2, "table": 1, "scorecard": 1, "report_page": 1}
    example.write("scales/demo.yaml", text)
    example.replace("defenses/trades.py", "START = 0.001", "START = 0.001  # of the noise")
    assert not planned(example)
    example.replace("defenses/trades.py", "START = 0.001", "START = 0.002")
    assert planned(example) == {"defend": 1, "attack": 1, "table": 1, "scorecard": 1, "report_page": 1}
