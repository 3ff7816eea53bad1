rule pretrain:
    "Train a baseline from scratch."
    input:
        code=watched(model_code),
        data=data_of,
    output:
        weights="results/{scale}/models/{model}/seed-{seed}/weights.safetensors",
        provenance="results/{scale}/models/{model}/seed-{seed}/model.json",
        history="results/{scale}/models/{model}/seed-{seed}/history.csv",
    log:
        "logs/{scale}/pretrain/{model}/seed-{seed}.log",
    benchmark:
        "logs/benchmarks/{scale}/pretrain/{model}/seed-{seed}.tsv"
    wildcard_constraints:
        model=either(BASELINES),
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
    params:
        version=contents(model_code),
        entry=model_entry,
        data=subpath(input.data, parent=True),
        folder=subpath(output.weights, parent=True),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.pretrain --entry {params.entry:q} --seed {wildcards.seed} --data {params.data} "
        "--folder {params.folder} --device {resources.device} --threads {threads} > {log} 2>&1"


rule defend:
    "Make a defended model, from another model or from scratch."
    input:
        code=watched(model_code),
        data=data_of,
        start=start_of,
    output:
        weights="results/{scale}/models/{model}/seed-{seed}/weights.safetensors",
        provenance="results/{scale}/models/{model}/seed-{seed}/model.json",
        history="results/{scale}/models/{model}/seed-{seed}/history.csv",
    log:
        "logs/{scale}/defend/{model}/seed-{seed}.log",
    benchmark:
        "logs/benchmarks/{scale}/defend/{model}/seed-{seed}.tsv"
    wildcard_constraints:
        model=either(DEFENDED),
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
    params:
        version=contents(model_code),
        entry=model_entry,
        data=subpath(input.data, parent=True),
        folder=subpath(output.weights, parent=True),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.defend --entry {params.entry:q} --seed {wildcards.seed} --data {params.data} "
        "--folder {params.folder} --start {input.start} --device {resources.device} --threads {threads} > {log} 2>&1"
