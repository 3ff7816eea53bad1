"""The table of faults, counted from the outcomes of the trials, and the small study that they harm."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from faulty import Run, Warm, commands, small_study
from redoubt_tree import Tree

HEAD = """\
# Kill, fill, break

What happens to a step when the machine fails it, or when someone hands it harmed files. `make test-faults` runs every
trial and writes this page; a trial passes when all of what its row expects is true of it.

- **What a killed run leaves.** A file that is being written has a hidden temporary name in the same folder, and a lock
  that ends with its writer; the next writer of the same file removes what a killed one left behind. Trainings and
  attacks resume from `results/.resume`, a download from `results/data/.partial`; both are removed when the step has
  succeeded. After a kill of Snakemake itself, `snakemake --unlock` comes first.
- **What vouches for a file.** `model.json` holds the SHA-256 of the weights beside it, `meta.json` that of a
  dataset's tensors, rows of attacks have a checksum on every page and a digest of their columns and metadata, a
  saved state has a digest of its whole content. A file that fails its check is named and never used; a state that
  fails costs a restart.
- **The clock.** Results from the future, or older than their inputs, are kept when their inputs are the same. Edits of
  sources, of printed numbers and of the config are detected by content, not by time. One case needs the clock: if it
  is set back while a result is regenerated and the run stops before its dependents are, Snakemake may think them up
  to date; use `snakemake --forcerun` with their rule.

| fault | step | expected | trials | passed |
| --- | --- | --- | ---: | ---: |
"""


def pytest_addoption(parser):
    parser.addoption("--faults-page", help="Markdown file to write the table of faults to")


@pytest.fixture(autouse=True)
def trial(request, record_property):
    """Tell the table which row a test belongs to; return a function that adds to what the row says was seen."""
    mark = request.node.get_closest_marker("fault")
    if mark is not None:
        record_property("fault", list(mark.args))
        record_property("trials", mark.kwargs.get("trials", 1))
    return lambda note: record_property("note", note)


def _rows(reports):
    """Return {(fault, step, expected): outcomes and notes} in the order in which trials were collected."""
    rows = {}
    for report in reports:
        facts = dict(report.user_properties)
        if "fault" in facts and (report.when == "call" or report.outcome != "passed"):
            row = rows.setdefault(tuple(facts["fault"]), {"outcomes": Counter(), "notes": Counter(), "why": set()})
            row["outcomes"][report.outcome] += facts["trials"]
            row["notes"].update(value for name, value in report.user_properties if name == "note")
            if report.outcome == "skipped":
                row["why"].add(report.longrepr[2].removeprefix("Skipped: "))
    return rows


def page(reports):
    """Return the table as Markdown."""
    lines = []
    for (fault, step, expected), row in sorted(_rows(reports).items()):
        trials = row["outcomes"].total() - row["outcomes"]["skipped"]
        seen = "".join(f"; {count} {note}" for note, count in sorted(row["notes"].items()))
        passed = row["outcomes"]["passed"] if trials else f"not tried: {', '.join(sorted(row['why']))}"
        lines.append(f"| {fault} | {step} | {expected}{seen} | {trials} | {passed} |")
    return HEAD + "\n".join(lines) + "\n"


def pytest_terminal_summary(terminalreporter, config):
    reports = [
        report for kind in ("passed", "failed", "skipped", "error") for report in terminalreporter.getreports(kind)
    ]
    if (path := config.getoption("faults_page", None)) is not None:
        text = page(reports)
        terminalreporter.write("\n" + text)
        Path(path).write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def requests(tmp_path_factory):
    """Where steps write what they ask of the network while the small study is made."""
    return tmp_path_factory.mktemp("requests") / "requests"


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory, requests):
    """The small study after a full run without a network; whoever changes it puts it back."""
    tree = small_study(tmp_path_factory.mktemp("study") / "redoubt")
    alone = ["unshare", "--map-root-user", "--net"]
    able = (
        shutil.which("unshare") and subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0
    )
    tree.run("env", f"FAULTS_OFFLINE={requests}", *(alone if able else []), "snakemake", "--cores", "1")
    return tree


@pytest.fixture(scope="session")
def command(finished_study):
    """Function (step) to the shell command with which Snakemake would run it."""
    return commands(finished_study).__getitem__


@pytest.fixture(scope="session")
def again(finished_study):
    """Function (tree, command) that runs a step which nothing disturbs to its end, and returns it."""
    warm = Warm()

    def run(tree, command):
        found = Run(tree, command, **warm.variables)
        found.end()
        return found

    yield run
    warm.end()


@pytest.fixture
def study(finished_study, tmp_path):
    """A copy of the finished small study, to be harmed."""
    shutil.copytree(finished_study.folder, tmp_path / "redoubt", symlinks=True)
    return Tree(tmp_path / "redoubt")
