"""The tutorial's commands, as they are written there, end with the user's defense in a report; others work as well."""

import csv
import re
import subprocess

import pytest
from redoubt_tree import ROOT, Tree, environment

PAGE = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
ALL = {
    "models.yaml": ("network: {name: mlp, width: 0.2}", "network: my-net"),
    "attacks.yaml": (
        "evaluations:\n",
        "  reach: {attack: my-reach, parameters: {epsilons: [0.05]}, select: {images: 50}}\n\n"
        "evaluations:\n  - {attack: reach, models: $both}\n",
    ),
    "artifacts.yaml": (
        "artifacts:\n",
        "artifacts:\n  figure-1: {title: Dots, caption: By seed., my-dots: {attack: reach, models: $both}}\n"
        "  table-2:\n    title: Gone\n    caption: Under my attack.\n    metric-table:\n      models: $both\n"
        "      columns: [{label: gone, metric: my-share, attack: reach}]\n",
    ),
}
"""Changes of the study, so that it uses a method of every kind."""


def run(folder, script):
    given = environment() | {"PYTHONPATH": str(ROOT / "src")}
    given = {key: value for key, value in given.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(["bash", "-ec", script], cwd=folder, env=given, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the project after the tutorial's commands, and what they said."""
    folder = tmp_path_factory.mktemp("tutorial")
    block = re.search(r"Then six commands.*?\n\n((?:    .*\n)+)", PAGE)[1]
    commands = [line.strip() for line in block.splitlines()]
    assert len(commands) <= 6 and commands[-1] == "redoubt show"
    return Tree(folder / "mine"), run(folder, "\n".join(commands))


def test_six_commands_end_with_the_defense_in_the_report(finished):
    project, said = finished
    assert said.splitlines()[-1] == str(project.folder / "results/demo/report/index.html")
    assert "my-paper-my-shield" in project.read("results/demo/report/index.html")
    table = project.read("results/demo/my_paper/table-1.md")
    assert "| digits | MLP | my-shield | — → **" in table and "not run" not in table
    check = re.search(r"  - (\{compare: .*\})", PAGE)[1]
    assert check in project.read("config/studies/my_paper/claims.yaml")
    rows = csv.DictReader(project.read("results/demo/claims.csv").splitlines())
    (claim,) = [row for row in rows if row["dataset"] == "all" and not row["check"]]
    assert claim["here"] in ("holds", "fails", "undecided") and int(claim["n"]) == 200  # decided by a test on images
    assert "my-shield helps under PGD" in project.read("results/demo/report/index.html")
    for file in re.findall(r"^\| `([\w/.-]+)` \|", PAGE, re.MULTILINE):
        assert (project.folder / file).exists(), file


def test_a_method_of_every_kind_works_in_a_project(finished):
    project, _ = finished
    names = {"attack": "my-reach", "network": "my-net", "metric": "my-share", "figure": "my-dots"}
    (project.folder / "notes").mkdir()
    run(project.folder / "notes", "\n".join(f"redoubt new {kind} {name}" for kind, name in names.items()))
    for file, (old, new) in ALL.items():
        project.replace(f"config/studies/my_paper/{file}", old, new)
    run(project.folder, "redoubt run --quiet all")
    assert "| digits | MLP | my-shield | — → **" in project.read("results/demo/my_paper/table-2.md")
    rows = project.read("results/demo/my_paper/figure-1.csv").splitlines()
    assert [row.split(",")[0] for row in rows] == ["model", "my-paper-plain", "my-paper-my-shield"]
    assert all(0 <= float(row.split(",")[2]) <= 1 for row in rows[1:])
