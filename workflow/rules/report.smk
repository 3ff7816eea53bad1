rule scorecard:
    "Set every published number beside the reproduced one, and decide the claims."
    input:
        code=watched(SCORECARD_CODE),
        artifacts=artifact_files({"table": ["csv"], "figure": ["csv"]}),
        published=watched(PUBLISHED),
    output:
        scorecard="results/{scale}/scorecard.csv",
        claims="results/{scale}/claims.csv",
        metrics="results/{scale}/metrics.json",
    log:
        "logs/{scale}/scorecard.log",
    conda:
        "../../envs/redoubt.yaml"
    threads: 1
    resources:
        sources=f"{SOURCES}/src",
        root=str(SOURCES),
        mem_mb=growing(2000),
        runtime=growing(15),
    params:
        version=contents(SCORECARD_CODE, PUBLISHED),
        digest=claims_entry,
        config=canonical_json({"scale": SCALE, "studies": list(CATALOG.studies)}),
        folder=subpath(output.scorecard, parent=True),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.scorecard --root {resources.root} "
        "--config {params.config:q} --results {params.folder} --scorecard {output.scorecard} --claims {output.claims} "
        "--metrics {output.metrics} > {log} 2>&1"


rule report_page:
    "Write the report: one page that needs no network."
    input:
        code=watched(REPORT_CODE),
        template=watched(REPORT_FILES),
        scorecard="results/{scale}/scorecard.csv",
        claims="results/{scale}/claims.csv",
        artifacts=artifact_files(layout.SUFFIXES),
    output:
        report(
            "results/{scale}/report/index.html",
            caption="../report/page.rst",
            category="report",
        ),
    log:
        "logs/{scale}/report.log",
    conda:
        "../../envs/redoubt.yaml"
    threads: 1
    resources:
        sources=f"{SOURCES}/src",
        mem_mb=growing(2000),
        runtime=growing(15),
    params:
        version=contents(REPORT_CODE, REPORT_FILES),
        entry=report_entry,
        folder=subpath(input.scorecard, parent=True),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.report --entry {params.entry:q} --results {params.folder} "
        "--out {output} > {log} 2>&1"
