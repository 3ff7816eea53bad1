import sys

from snakemake.utils import min_version

min_version("9.0")

if workflow.is_main_process:
    sys.path.insert(0, f"{workflow.basedir}/src")
from redoubt import frozen

# All jobs of a run use rules, config and code as they are at its start.
SOURCES = frozen.freeze() if workflow.is_main_process else frozen.ROOT
# The catalog reads config/config.yaml itself, so that a mistake in it is told in one line, with its key.


report: f"{SOURCES}/workflow/report/workflow.rst"


include: f"{SOURCES}/workflow/rules/common.smk"
include: f"{SOURCES}/workflow/rules/data.smk"
include: f"{SOURCES}/workflow/rules/models.smk"
include: f"{SOURCES}/workflow/rules/attacks.smk"
include: f"{SOURCES}/workflow/rules/artifacts.smk"
include: f"{SOURCES}/workflow/rules/report.smk"


# The GPUs of this machine (profiles/default) are no bound on those of a cluster.
resource_scopes:
    gpu="local",


onstart:
    cancel_leftovers()


rule all:
    "Everything at the chosen scale, ending with the report."
    default_target: True
    input:
        f"results/{SCALE}/report/index.html",


rule deepdefense:
    "Tables and figures of DeepDefense."
    input:
        study_targets("deepdefense"),


rule peernets:
    "Tables and figures of PeerNets."
    input:
        study_targets("peernets"),
