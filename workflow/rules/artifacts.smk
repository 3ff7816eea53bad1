rule table:
    "Draw a table of a paper, with the numbers behind it."
    input:
        unpack(of("table", "inputs")),
    output:
        data=layout.artifact_file("{scale}", "{study}", "{artifact}", "csv"),
        text=report(
            layout.artifact_file("{scale}", "{study}", "{artifact}", "md"),
            caption="../report/table.rst",
            category="{study}",
            labels={"artifact": "{artifact}", "scale": "{scale}"},
        ),
    log:
        "logs/{scale}/table/{study}/{artifact}.log",
    wildcard_constraints:
        study=JOBS.pattern("table"),
    conda:
        "../../envs/redoubt.yaml"
    threads: 1
    resources:
        sources=f"{SOURCES}/src",
        mem_mb=growing(2000),
        runtime=growing(15),
    params:
        version=of("table", "version"),
        entry=text("table"),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.table --entry {params.entry:q} --data {output.data} --text {output.text} > {log} 2>&1"


rule figure:
    "Draw a figure of a paper, with the numbers behind it."
    input:
        unpack(of("figure", "inputs")),
    output:
        data=layout.artifact_file("{scale}", "{study}", "{artifact}", "csv"),
        vector=report(
            layout.artifact_file("{scale}", "{study}", "{artifact}", "svg"),
            caption="../report/figure.rst",
            category="{study}",
            labels={"artifact": "{artifact}", "scale": "{scale}"},
        ),
        pixels=layout.artifact_file("{scale}", "{study}", "{artifact}", "png"),
    log:
        "logs/{scale}/figure/{study}/{artifact}.log",
    wildcard_constraints:
        study=JOBS.pattern("figure"),
    conda:
        "../../envs/redoubt.yaml"
    threads: 1
    resources:
        sources=f"{SOURCES}/src",
        mem_mb=growing(2000),
        runtime=growing(15),
    params:
        version=of("figure", "version"),
        entry=text("figure"),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.figure --entry {params.entry:q} --data {output.data} --svg {output.vector} --png {output.pixels} > {log} 2>&1"


rule figure_pdf:
    "Draw a figure as PDF, which no other rule asks for."
    input:
        unpack(of("figure", "inputs")),
        vector=layout.artifact_file("{scale}", "{study}", "{artifact}", "svg"),
    output:
        layout.artifact_file("{scale}", "{study}", "{artifact}", "pdf"),
    log:
        "logs/{scale}/figure_pdf/{study}/{artifact}.log",
    wildcard_constraints:
        study=JOBS.pattern("figure"),
    conda:
        "../../envs/redoubt.yaml"
    threads: 1
    resources:
        sources=f"{SOURCES}/src",
        mem_mb=growing(2000),
        runtime=growing(15),
    params:
        entry=text("figure"),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.figure_pdf --entry {params.entry:q} --out {output} > {log} 2>&1"
