rule attack:
    "Attack one model: one row per image, and per epsilon of a sweep."
    input:
        unpack(of("attack", "inputs")),
    output:
        layout.attack_file("{scale}", "{model}", "{seed}", "{attack}"),
    log:
        "logs/{scale}/attack/{model}/seed-{seed}/{attack}.log",
    benchmark:
        "logs/benchmarks/{scale}/attack/{model}/seed-{seed}/{attack}.tsv"
    wildcard_constraints:
        model=JOBS.pattern("attack"),
    conda:
        "../../envs/redoubt.yaml"
    threads: CATALOG.scale.threads
    resources:
        sources=f"{SOURCES}/src",
        gpu=GPUS,
        device=DEVICE,
        mem_mb=growing(8000),
        runtime=growing(240),
    params:
        version=of("attack", "version"),
        entry=text("attack"),
        data=subpath(input.data, parent=True),
        crafted_on=option("crafted_on"),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.attack --entry {params.entry:q} --seed {wildcards.seed} --data {params.data} "
        "--weights {input.weights} --preprocessing {input.preprocessing} --out {output} --reads {input.reads} {params.crafted_on} "
        "--device {resources.device} --threads {threads} > {log} 2>&1"
