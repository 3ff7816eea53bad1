rule scorecard:
    "Set every published number beside the reproduced one, and decide the claims."
    input:
        unpack(of("scorecard", "inputs")),
    output:
        **layout.scorecard_files("{scale}"),
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
        version=of("scorecard", "version"),
        entry=of("scorecard", "entry"),
        config=CONFIG,
        folder=subpath(output[0], parent=True),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.scorecard --root {resources.root} "
        "--config {params.config:q} --results {params.folder} --scorecard {output.scorecard} --claims {output.claims} "
        "--metrics {output.metrics} > {log} 2>&1"


rule report_page:
    "Write the report: one page that needs no network, the same as data, and a summary of each paper."
    input:
        unpack(of("report", "inputs")),
    output:
        page=report(
            layout.report_files("{scale}")["page"],
            caption="../report/page.rst",
            category="report",
        ),
        record=layout.report_files("{scale}")["record"],
        papers=layout.report_files("{scale}")["papers"],
    log:
        "logs/{scale}/report.log",
    conda:
        "../../envs/redoubt.yaml"
    threads: 1
    resources:
        sources=f"{SOURCES}/src",
        root=str(SOURCES),
        mem_mb=growing(2000),
        runtime=growing(15),
    params:
        version=of("report", "version"),
        entry=of("report", "entry"),
        config=CONFIG,
        folder=subpath(input.scorecard, parent=True),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.report --root {resources.root} --config {params.config:q} "
        "--results {params.folder} --out {output.page} --record {output.record} "
        "--papers {output.papers} > {log} 2>&1"
