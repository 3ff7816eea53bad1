"""What can be asked for."""


report: "../report/workflow.rst"


include: "common.smk"
include: "data.smk"
include: "models.smk"
include: "attacks.smk"
include: "artifacts.smk"
include: "report.smk"


# The GPUs of this machine (profiles/default) are no bound on those of a cluster.
resource_scopes:
    gpu="local",


onstart:
    before_submission()


rule deepdefense:
    "Tables and figures of DeepDefense."
    input:
        study_targets("deepdefense"),


rule peernets:
    "Tables and figures of PeerNets."
    input:
        study_targets("peernets"),
