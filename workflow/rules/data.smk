rule download:
    "Fetch a dataset, check it, and publish it as tensors."
    output:
        layout.data_files("{dataset}"),
    log:
        "logs/download/{dataset}.log",
    benchmark:
        "logs/benchmarks/download/{dataset}.tsv"
    wildcard_constraints:
        dataset=JOBS.pattern("download"),
    conda:
        "../../envs/redoubt.yaml"
    threads: 1
    resources:
        sources=f"{SOURCES}/src",
        mem_mb=growing(8000),
        runtime=growing(120),
        mirrors=MIRRORS,
        imagenet=IMAGENET,
        asked=dataset,
    params:
        version=of("download", "version"),
        entry=text("download"),
        folder=subpath(output[0], parent=True),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.download {resources.asked} --folder {params.folder} "
        "{resources.mirrors} {resources.imagenet} > {log} 2>&1"


rule prepare:
    "Fit preprocessing on all training images of a dataset, once for all models that preprocess alike."
    input:
        unpack(of("prepare", "inputs")),
    output:
        layout.data_file("{dataset}", "preprocessing/{preprocessing}.safetensors"),
    log:
        "logs/prepare/{dataset}/preprocessing/{preprocessing}.log",
    benchmark:
        "logs/benchmarks/prepare/{dataset}/preprocessing/{preprocessing}.tsv"
    wildcard_constraints:
        dataset=JOBS.pattern("prepare"),
    conda:
        "../../envs/redoubt.yaml"
    threads: 1
    resources:
        sources=f"{SOURCES}/src",
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        version=of("prepare", "version"),
        entry=text("prepare"),
        data=subpath(input.data, parent=True),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.prepare --entry {params.entry:q} --data {params.data} "
        "--out {output} > {log} 2>&1"
