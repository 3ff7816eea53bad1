"""The graph: all studies without torch, `code=` that covers what steps import, a clean lint."""

import json
import time
from collections import Counter

import pytest
from redoubt_tree import tiny_copy, tracked_copy

from redoubt.graph import jobs as workload
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


def test_graph_of_all_studies_at_paper_scale(tree, capsys):
    started = time.monotonic()
    planned = tree.planned("--config", "scale=paper", "studies=" + json.dumps(studies(tree)))
    with capsys.disabled():
        print(f"\ngraph of {planned.total()} jobs in {time.monotonic() - started:.1f} s", end=" ")
    assert planned["pretrain"] and planned["defend"] and planned["attack"] and planned["table"] and planned["figure"]
    assert planned["scorecard"] == planned["report_page"] == 1
    told = Counter(job.step for job in workload.jobs(catalog.load(tree.folder, {"scale": "paper"}, {})))
    told["report_page"] = told.pop("report")
    assert told == planned, "`make plan` counts other jobs"


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
    return sorted(path.stem for path in (tree.folder / "config/studies").glob("*.yaml"))


def test_code_inputs_cover_what_steps_import(tmp_path):
    tree = tiny_copy(tmp_path / "redoubt")
    tree.write("hook/sitecustomize.py", HOOK)
    loaded = tmp_path / "loaded"
    loaded.mkdir()
    # Snakemake's jobs set PYTHONPATH to src alone, so the hook stands there; it is no module of the package
    (tree.folder / "hook/sitecustomize.py").rename(tree.folder / "src/sitecustomize.py")
    tree.run("env", f"LOADED_MODULES={loaded}", "snakemake", "--cores", "1")
    script = (
        "import json; from redoubt.study import catalog; c = catalog.load('.')\n"
        "found = {step: c.code('steps.' + step) for step in ('download', 'scorecard')}\n"
        "found['report'] = c.report_code()\n"
        "found |= {model: c.model_code(model) for model in c.models}\n"
        "found |= {f'{model}/{attack}': c.attack_code(model, attack) for model, attack in c.runs}\n"
        "found |= {key: c.artifact_code(study, key) for study, key in c.artifacts}\n"
        "import sys; files = [getattr(m, '__file__', None) or '' for n, m in sys.modules.items() if 'redoubt' in n]\n"
        "found['scorecard'] += ['src/' + file.split('/src/')[-1] for file in files]  # it reads the config itself\n"
        "print(json.dumps(found))"
    )
    declared = {key: set(files) for key, files in json.loads(tree.run("python", "-c", script).stdout).items()}
    seen = set()
    for report in loaded.iterdir():
        command, *files = report.read_text().splitlines()
        key = _item(command, report.name)
        used = {file.split("/src/")[-1] for file in files}
        extra = {f"src/{file}" for file in used} - declared[key]
        assert not extra, f"{report.name} for {key} imports what its rule does not list: {sorted(extra)}"
        seen.add(key)
    assert seen == set(declared)


def _item(command, step):
    step = step.rsplit("-", 1)[0].removeprefix("redoubt.steps.")
    if step in {"download", "scorecard", "report"}:
        return step
    entry = json.JSONDecoder().raw_decode(command[command.index("{") :])[0]
    return f"{command.split('/attacks/')[1].split('/')[0]}/{entry['id']}" if step == "attack" else entry["id"]


def test_lint_and_format(tree):
    lint = tree.snakemake("--lint", check=False)
    assert lint.returncode == 0, lint.stderr[-3000:]
    tree.run("snakefmt", "--check", "Snakefile", "workflow")
