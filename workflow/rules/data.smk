rule download:
    "Fetch a dataset, check it, and publish it as tensors."
    input:
        code=watched(code("steps.download")),
    output:
        train="results/data/{dataset}/train.safetensors",
        test="results/data/{dataset}/test.safetensors",
        meta="results/data/{dataset}/meta.json",
    log:
        "logs/download/{dataset}.log",
    benchmark:
        "logs/benchmarks/download/{dataset}.tsv"
    conda:
        "../../envs/redoubt.yaml"
    threads: 1
    resources:
        sources=f"{SOURCES}/src",
        mem_mb=growing(8000),
        runtime=growing(120),
        mirrors=MIRRORS,
        imagenet=IMAGENET,
    params:
        version=contents(code("steps.download")),
        folder=subpath(output.meta, parent=True),
    shell:
        "PYTHONPATH={resources.sources} python -m redoubt.steps.download --dataset {wildcards.dataset} --folder {params.folder} "
        "{resources.mirrors} {resources.imagenet} > {log} 2>&1"
