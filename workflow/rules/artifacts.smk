rule table:
    "Draw a table of a paper, with the numbers behind it."
    input:
        code=watched(artifact_code),
        published=watched(published),
        data=artifact_inputs,
    output:
        data="results/{scale}/{study}/{artifact}.csv",
        text=report(
            "results/{scale}/{study}/{artifact}.md",
            caption="../report/table.rst",
            category="{study}",
            labels={"artifact": "{artifact}", "scale": "{scale}"},
        ),
    log:
        "logs/{scale}/table/{study}/{artifact}.log",
    wildcard_constraints:
        artifact=either(TABLES),
    conda:
        "../../envs/redoubt.yaml"
    threads: 1
    resources:
        sources=f"{SOURCES}/src",
        mem_mb=growing(2000),
        runtime=growing(15),
    params:
        version=contents(artifact_code, published),
        entry=artifact_entry,
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.table --entry {params.entry:q} --data {output.data} --text {output.text} > {log} 2>&1"


rule figure:
    "Draw a figure of a paper, with the numbers behind it."
    input:
        code=watched(artifact_code),
        published=watched(published),
        data=artifact_inputs,
    output:
        data="results/{scale}/{study}/{artifact}.csv",
        vector=report(
            "results/{scale}/{study}/{artifact}.svg",
            caption="../report/figure.rst",
            category="{study}",
            labels={"artifact": "{artifact}", "scale": "{scale}"},
        ),
        pixels="results/{scale}/{study}/{artifact}.png",
    log:
        "logs/{scale}/figure/{study}/{artifact}.log",
    wildcard_constraints:
        artifact=either(FIGURES),
    conda:
        "../../envs/redoubt.yaml"
    threads: 1
    resources:
        sources=f"{SOURCES}/src",
        mem_mb=growing(2000),
        runtime=growing(15),
    params:
        version=contents(artifact_code, published),
        entry=artifact_entry,
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.figure --entry {params.entry:q} --data {output.data} --svg {output.vector} --png {output.pixels} > {log} 2>&1"
