"""What it gains on a cluster to make one job of ten short ones: `python benchmarks/cluster.py`, as root.

The demo of one study is made on this machine; then its tables and figures are drawn again on a real SLURM of one node
(tests/cluster/slurm.py installs it), ten to a job as `profiles/slurm` has it, and one to a job. What counts is how long
cores are taken; how long it lasts depends on when the driver asks next. The table goes to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "tests" / folder) for folder in ("cluster", "workflow")]

from redoubt_tree import Tree, environment, tracked_copy  # noqa: E402
from slurm import DRIVER, SITE, Cluster, Job, missing  # noqa: E402

DRAWN = ["--forcerun", "table", "figure"]


def draw(tree: Tree, cluster: Cluster, study: str, *arguments: str) -> list[Job]:
    """Draw the tables and figures of a study on the cluster, and return the jobs that did."""
    done = subprocess.run(
        [*DRIVER, study, *arguments, *DRAWN],
        cwd=tree.folder,
        env=cluster.reached_from(environment()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout[-3000:])
    ids = re.findall(r"submitted with SLURM jobid (\d+)", done.stdout)
    return [cluster.finished(job) for job in ids]


def measure(study: str, folder: Path) -> str:
    """Return the table as Markdown."""
    tree = tracked_copy(folder / "redoubt")
    tree.write("site/config.yaml", SITE)
    tree.run("python", "-m", "redoubt.graph.warm", "snakemake", "--cores", "all", study)
    cluster = Cluster(folder / "slurm")
    try:
        cluster.start()
        ways = {
            "ten to a job": draw(tree, cluster, study),
            "one to a job": draw(tree, cluster, study, "--group-components", "drawing=1"),
        }
    finally:
        cluster.stop()
    lines = [
        f"# Tables and figures of `{study}` at demo scale, on a SLURM of one node with {cluster.cpus} cores",
        "",
        "| what | jobs | core s | ratio | s from the first start to the last end |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    alone = sum(job.cores * (job.end - job.start) for job in ways["one to a job"])
    for name, jobs in ways.items():
        taken = sum(job.cores * (job.end - job.start) for job in jobs)
        lasted = max(job.end for job in jobs) - min(job.start for job in jobs)
        lines.append(f"| {name} | {len(jobs)} | {taken:.0f} | {alone / taken:.2f} | {lasted:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="deepdefense")
    study = parser.parse_args().study
    if lacks := missing():
        raise SystemExit(f"error: a SLURM of one node needs {'; '.join(lacks)}")
    with tempfile.TemporaryDirectory() as folder:
        text = measure(study, Path(folder))
    print(text)
    (ROOT / "benchmarks/results/cluster.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
