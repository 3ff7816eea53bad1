"""What it gains on a cluster to make one job of ten short ones: `python benchmarks/cluster.py`, as root.

The demo of one study runs through `profiles/slurm` on a real SLURM of one node (tests/cluster/slurm.py installs it).
Then its tables and figures are drawn again, ten to a job as the profile has it, and one to a job. The table goes to
benchmarks/results/cluster.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "tests" / folder) for folder in ("cluster", "workflow")]

from redoubt_tree import Tree, environment, tracked_copy  # noqa: E402
from slurm import SITE, Cluster, missing  # noqa: E402

DRAWN = ["--forcerun", "table", "figure"]


def run(tree: Tree, cluster: Cluster, study: str, *arguments: str) -> tuple[int, float]:
    """Run a study on the cluster and return how many jobs SLURM was given, and the seconds that it took."""
    path = f"{environment()['PATH']}{os.pathsep}{cluster.environment['PATH']}"
    start = time.perf_counter()
    done = subprocess.run(
        ["snakemake", "--profile", "profiles/slurm", "--profile", "site", study, *arguments],
        cwd=tree.folder,
        env={**environment(), **cluster.environment, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    taken = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stdout[-3000:])
    return done.stdout.count("has been submitted with SLURM jobid"), taken


def measure(study: str, folder: Path) -> str:
    """Return the table as Markdown."""
    cluster = Cluster(folder / "slurm")
    try:
        cluster.start()
        tree = tracked_copy(folder / "redoubt")
        tree.write("site/config.yaml", SITE)
        whole = run(tree, cluster, study)
        ten = run(tree, cluster, study, *DRAWN)
        one = run(tree, cluster, study, "--group-components", "drawing=1", *DRAWN)
    finally:
        cluster.stop()
    lines = [
        f"# Tables and figures of `{study}` at demo scale, on a SLURM of one node with {cluster.cpus} cores",
        "",
        f"Before them its whole demo ran through `profiles/slurm`: {whole[0]} jobs of SLURM, {whole[1]:.0f} s.",
        "",
        "| what | jobs | s | ratio |",
        "| --- | ---: | ---: | ---: |",
        f"| ten to a job | {ten[0]} | {ten[1]:.0f} | {one[1] / ten[1]:.2f} |",
        f"| one to a job | {one[0]} | {one[1]:.0f} | 1.00 |",
    ]
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
