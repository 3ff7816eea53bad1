rule pretrain:
    "Train a baseline from scratch."
    input:
        unpack(of("pretrain", "inputs")),
    output:
        layout.model_files("{scale}", "{model}", "{seed}"),
    log:
        "logs/{scale}/pretrain/{model}/seed-{seed}.log",
    benchmark:
        "logs/benchmarks/{scale}/pretrain/{model}/seed-{seed}.tsv"
    wildcard_constraints:
        model=JOBS.pattern("pretrain"),
    retries: RETRIES
    conda:
        "../../envs/redoubt.yaml"
    threads: CATALOG.scale.threads
    resources:
        sources=f"{SOURCES}/src",
        gpu=GPUS,
        device=DEVICE,
        mem_mb=growing(8000),
        runtime=growing(1440),
        weights=given_weights,
    params:
        version=of("pretrain", "version"),
        entry=text("pretrain"),
        data=subpath(input.data, parent=True),
        folder=subpath(output[0], parent=True),
        start=option("start"),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.train --entry {params.entry:q} --seed {wildcards.seed} --data {params.data} "
        "--preprocessing {input.preprocessing} --folder {params.folder} {params.start} {resources.weights} --device {resources.device} "
        "--threads {threads} > {log} 2>&1"


use rule pretrain as defend with:
    input:
        unpack(of("defend", "inputs")),
    log:
        "logs/{scale}/defend/{model}/seed-{seed}.log",
    benchmark:
        "logs/benchmarks/{scale}/defend/{model}/seed-{seed}.tsv"
    wildcard_constraints:
        model=JOBS.pattern("defend"),
    params:
        version=of("defend", "version"),
        entry=text("defend"),
