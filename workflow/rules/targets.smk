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
    rounds.one_timer(workflow.scheduler)
    before_submission()


# Tables and figures of one study: `snakemake peernets`.
for study in CATALOG.studies:

    rule:
        name:
            study
        input:
            [file for job in JOBS if job.study == study for file in job.outputs],
