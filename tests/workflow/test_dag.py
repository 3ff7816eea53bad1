"""The graph: the list of jobs at every scale, without torch; versions that cover what steps import; a clean lint."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from redoubt_tree import environment, tiny_copy, tracked_copy

from redoubt import registry
from redoubt.graph import code
from redoubt.graph.code import WITHOUT_MEANING as MEANINGLESS
from redoubt.graph.jobs import Jobs
from redoubt.study import catalog

HOOK = '''\
"""Write the package's modules that a step has loaded when it ends."""
import atexit, os, sys

if os.environ.get("LOADED_MODULES") and "redoubt.steps" in " ".join(sys.orig_argv):
    def _tell():
        own = [module for name, module in sys.modules.items() if name.split(".")[0] == "redoubt"]
        names = sorted(getattr(module, "__file__", None) or "" for module in own)
        main = getattr(sys.modules.get("__main__"), "__file__", None) or ""
        step = sys.orig_argv[sys.orig_argv.index("-m") + 1]
        with open(os.path.join(os.environ["LOADED_MODULES"], f"{step}-{os.getpid()}"), "w") as file:
            file.write("\\n".join(filter(None, [" ".join(sys.argv), *names, main])))

    atexit.register(_tell)
'''


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The project as it is, nothing run."""
    return tracked_copy(tmp_path_factory.mktemp("dag") / "redoubt")


@pytest.mark.parametrize("scale", ["demo", "laptop", "laptop-jpeg", "gpu", "paper"])
def test_snakemake_plans_the_list_of_jobs(tree, scale, capsys):
    started = time.monotonic()
    planned = tree.planned("--config", f"scale={scale}", "studies=" + json.dumps(studies(tree)))
    with capsys.disabled():
        print(f"\n{scale}: graph of {planned.total()} jobs in {time.monotonic() - started:.1f} s", end=" ")
    found = Jobs(catalog.load(tree.folder, {"scale": scale, "studies": studies(tree)}, environment()))
    listed = Counter(job.step for job in found.wanted)
    listed["report_page"] = listed.pop("report")
    assert listed == planned
    assert {"table", "figure", "scorecard", "report_page"} <= set(planned)


def test_every_study_is_a_target(tree):
    for study in studies(tree):
        planned = tree.planned(study, "--config", "studies=" + json.dumps(studies(tree)))
        assert {"download", "table", "figure"} <= set(planned) and "report_page" not in planned


def test_graph_is_built_without_torch(tree):
    script = (
        "import sys; from snakemake.cli import main\n"
        "try: main(['-n', '--quiet', 'all'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert 'redoubt' in loaded\n"
        "assert not loaded & {'torch', 'foolbox', 'torchvision'}, loaded"
    )
    tree.run("python", "-c", script)


def studies(tree):
    """Return the names of all studies."""
    return sorted(path.name for path in (tree.folder / "config/studies").iterdir())


def test_versions_cover_what_steps_import(tmp_path):
    tree = tiny_copy(tmp_path / "redoubt")
    tree.write("hook/sitecustomize.py", HOOK)
    loaded = tmp_path / "loaded"
    loaded.mkdir()
    # Snakemake's jobs set PYTHONPATH to src alone, so the hook lies there; it is no module of the package
    (tree.folder / "hook/sitecustomize.py").rename(tree.folder / "src/sitecustomize.py")
    tree.run("env", f"LOADED_MODULES={loaded}", "snakemake", "--cores", "1")
    jobs = {key_of(job): job for job in Jobs(catalog.load(tree.folder)).wanted}
    seen = set()
    for report in loaded.iterdir():
        command, *files = report.read_text().splitlines()
        key = _item(command, report.name)
        used = {file.split("/src/")[-1].removesuffix(".py").removesuffix("/__init__") for file in files}
        extra = {module.replace("/", ".") for module in used} - set(code.closure(*jobs[key].modules))
        extra = {module for module in extra if not any(f"{module}.".startswith(f"{part}.") for part in MEANINGLESS)}
        if key in ("scorecard", "report"):  # they read the config, and so the parameters of all methods
            methods = {module for module in extra if module.split(".")[1] in registry.KINDS}
            extra -= methods | set(code.closure(*methods))
        assert not extra, f"{report.name} for {key} imports what its version does not cover: {sorted(extra)}"
        seen.add(key)
    assert seen == set(jobs)


def key_of(job):
    """Return what a job's command line says of it."""
    return {"attack": f"{job.model}/{job.attack}", "prepare": job.preprocessing}.get(
        job.step, job.model or job.artifact or job.step
    )


def _item(command, step):
    step = step.rsplit("-", 1)[0].removeprefix("redoubt.steps.")
    if step in {"download", "scorecard", "report"}:
        return step
    if step == "prepare":
        return Path(command.split("--out ")[1].split()[0]).stem
    entry = json.JSONDecoder().raw_decode(command[command.index("{") :])[0]
    return f"{command.split('/attacks/')[1].split('/')[0]}/{entry['id']}" if step == "attack" else entry["id"]


def test_lint_and_format(tree):
    lint = tree.snakemake("--lint", check=False)
    assert lint.returncode == 0, lint.stderr[-3000:]
    tree.run("snakefmt", "--check", "Snakefile", "workflow")
