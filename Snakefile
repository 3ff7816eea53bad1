from snakemake.utils import min_version

min_version("9.0")

# The catalog reads config/config.yaml itself, so that a mistake in it is told in one line, with its key.


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/attacks.smk"
include: "workflow/rules/artifacts.smk"
include: "workflow/rules/report.smk"


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
