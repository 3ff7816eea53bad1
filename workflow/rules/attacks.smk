rule attack:
    "Attack one model: one row per image, and per epsilon of a sweep."
    input:
        code=watched(attack_code),
        data=data_of,
        weights="results/{scale}/models/{model}/seed-{seed}/weights.safetensors",
        provenance="results/{scale}/models/{model}/seed-{seed}/model.json",
        reads=attack_reads,
    output:
        "results/{scale}/attacks/{model}/seed-{seed}/{attack}.parquet",
    log:
        "logs/{scale}/attack/{model}/seed-{seed}/{attack}.log",
    benchmark:
        "logs/benchmarks/{scale}/attack/{model}/seed-{seed}/{attack}.tsv"
    wildcard_constraints:
        model=either(CATALOG.models),
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
        version=contents(attack_code),
        entry=attack_entry,
        data=subpath(input.data, parent=True),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.attack --entry {params.entry:q} --seed {wildcards.seed} --data {params.data} "
        "--weights {input.weights} --out {output} --reads {input.reads} --device {resources.device} "
        "--threads {threads} > {log} 2>&1"
