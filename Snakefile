import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.26")

if workflow.is_main_process:
    sys.path.insert(0, f"{workflow.basedir}/src")
from redoubt.graph import failures, project, snapshot

if workflow.is_main_process and (problem := project.misplaced(Path())):
    raise SystemExit(f"error: {problem}")
# All jobs of a run use rules, config and code as they are at its start; each reads this file alone again.
SOURCES = snapshot.freeze(changes=config) if workflow.is_main_process else snapshot.ROOT


include: str(Path(SOURCES, "workflow/rules/targets.smk").absolute())


rule all:
    "Everything at the chosen scale, ending with the report."
    input:
        f"results/{SCALE}/report/index.html",


onerror:
    print(failures.causes(workflow.scheduler.failed), file=sys.stderr)
