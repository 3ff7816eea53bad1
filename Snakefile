from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"


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
