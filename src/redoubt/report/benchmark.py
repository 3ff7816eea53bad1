"""Trained defenses in the form that AutoAdvExBench takes, so that others' attacks can be tried on them.

A folder has a Dockerfile, `config.json` (for each defense its forward file, framework, dataset, citation and known
attacks) and forward files: given a folder of images, `python <file> <folder>` prints a line `Labels` and then a label
for each image, in the order of their names. Source: README.md and evaluate/ of github.com/ethz-spylab/autoadvexbench
at commits 2e1c0d3 and 8da21de (Carlini and others, arXiv 2503.01811). Labels come last and at once: the benchmark reads
errors and warnings from the same stream, and takes for labels what follows that line. -1 is an image that is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from redoubt.judging.results import AttackFacts, Results, StudyResults, Traced

DATASETS = {"mnist": "mnist", "cifar10": "cifar-10", "imagenet": "imagenet"}
"""Datasets that the benchmark has, by ours."""
NORMS = {"linf": "infty", "l2": "2"}
PLAIN = "clean"
"""The defense that is none."""
UNDER_ATTACK, BALL = "accuracy(at=attacked)", "l-infinity"

DOCKERFILE = """FROM python:3.12-slim
WORKDIR /usr/src/app
COPY . /usr/src/app
RUN pip install --no-cache-dir ./redoubt[pipeline]
"""
FORWARD = '''"""Label the images of a folder: python {file} FOLDER prints `Labels` and a label for each image."""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from redoubt.models.weights import load_model

HERE = Path(__file__).resolve().parent
BATCH = 100


def main(folder):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    weights, preprocessing = HERE / "{weights}", HERE / "{preprocessing}"
    model, facts = load_model(weights, preprocessing, device)
    mode = "L" if facts["shape"][0] == 1 else "RGB"
    files, labels = sorted(Path(folder).glob("*.png")), []
    for start in range(0, len(files), BATCH):
        pictures = [np.asarray(Image.open(file).convert(mode)) for file in files[start : start + BATCH]]
        images = torch.from_numpy(np.stack(pictures)).reshape(len(pictures), *pictures[0].shape[:2], -1)
        images = images.permute(0, 3, 1, 2).float().div(255.0).to(device)
        with torch.no_grad():
            found = model(images).argmax(1)
            if hasattr(model.network, "detects"):
                found[model.network.detects(model.preprocessing(images))] = -1
        labels += found.tolist()
    print("Labels", *labels, sep="\\n")


if __name__ == "__main__":
    main(sys.argv[1])
'''


def fitting(own: StudyResults) -> dict[str, int]:
    """Return the models that the benchmark can take, with the seed of a trained run: defended, on a dataset it has."""
    found = {}
    for key, model in own.models.items():
        seeds = [run.seed for run in model.runs if run.weights is not None]
        if model.dataset in DATASETS and model.defense != PLAIN and seeds:
            found[key] = seeds[0]
    return found


def config(found: Results, study: str, source: str) -> dict[str, Any]:
    """Return `config.json` of a study's defenses.

    Args:
        found: the run.
        study: its id.
        source: address of the code.
    """
    own = found.studies[study]
    return {
        "docker_env_name": f"ab-redoubt-{study.replace('_', '-')}",
        "github_source": source,
        "defenses": {
            key: {
                "forward": forward_file(key),
                "framework": "torch",
                "dataset": DATASETS[own.models[key].dataset],
                "defense_citation": f"{own.title} ({own.reference})",
                "known_attacks": dict(_known(found, own, key)),
            }
            for key in fitting(own)
        },
    }


def forward_file(model: str) -> str:
    """Return the name of a model's forward file."""
    return f"forward_{re.sub(r'[^a-z0-9]', '_', model)}.py"


def files(found: Results, study: str, source: str) -> Iterator[tuple[str, str]]:
    """Yield names and texts of the files of a study's folder, without weights and the package."""
    yield "config.json", json.dumps(config(found, study, source), indent=4, ensure_ascii=False) + "\n"
    yield "Dockerfile", DOCKERFILE
    for key in fitting(found.studies[study]):
        name = forward_file(key)
        text = FORWARD.replace("{file}", name).replace("{weights}", f"weights/{key}/weights.safetensors")
        yield name, text.replace("{preprocessing}", f"weights/{key}/preprocessing.safetensors")


def _known(found: Results, own: StudyResults, model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield accuracies under attacks of a stated size on pixels in [0, 1], and what strong attacks leave of them."""
    for cell in own.cells:
        if cell.model != model or cell.attack is None or cell.reproduced is None or cell.metric != UNDER_ATTACK:
            continue
        attack, size = own.attacks[cell.attack], _size(cell, own.attacks[cell.attack])
        norm = NORMS.get(attack.parameters.get("norm") or ("linf" if attack.threat.startswith(BALL) else ""))
        if attack.space != "pixels" or norm is None or size is None:
            continue
        shared = {"epsilon": size, "norm": norm}
        comment = f"{cell.artifact}, {cell.column}; {cell.n} images; {found.stamp}"
        names = {"attack_citation": f"Redoubt, attack {attack.method}", "comment": comment}
        yield f"{cell.attack}, {size:g}", {"robust_accuracy": cell.reproduced, **shared, **names}
        if cell.adaptive is not None:
            names = {"attack_citation": "Redoubt, worst of several", "comment": f"decided by {cell.adaptive_by}"}
            yield f"{cell.adaptive_attack}, {size:g}", {"robust_accuracy": cell.adaptive, **shared, **names}


def _size(cell: Traced, attack: AttackFacts) -> float | None:
    """Return the radius of the ball that a cell is about; None where none is stated."""
    sizes = attack.parameters.get("epsilons") or []
    size = cell.where.get("epsilon", sizes[0] if len(sizes) == 1 else None)
    return float(size) if size is not None else None
