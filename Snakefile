import sys

from snakemake.utils import min_version

min_version("9.0")

if workflow.is_main_process:
    sys.path.insert(0, f"{workflow.basedir}/src")
from redoubt.graph import snapshot

# All jobs of a run use rules, config and code as they are at its start; this file alone is read anew by each.
SOURCES = snapshot.freeze() if workflow.is_main_process else snapshot.ROOT


include: f"{SOURCES}/workflow/rules/targets.smk"


rule all:
    "Everything at the chosen scale, ending with the report."
    input:
        f"results/{SCALE}/report/index.html",
