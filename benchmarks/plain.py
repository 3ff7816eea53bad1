"""Attacks as one would first write them, one image at a time: what ours are measured against where Foolbox has none."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from scipy.optimize import differential_evolution

from redoubt.attacks import deepfool


def grid(
    model, images: torch.Tensor, labels: torch.Tensor, rotation=30.0, shift=3.0, counts=(31, 5, 5)
) -> torch.Tensor:
    """Try every rotation and translation of one image after the other; return the first that fools, or the last."""
    found = images.clone()
    height, width = images.shape[-2:]
    limits = zip((rotation, shift, shift), counts, strict=True)
    angles, *shifts = (np.linspace(-limit, limit, count) for limit, count in limits)
    for row in range(len(images)):
        for angle, right, down in itertools.product(angles, *shifts):
            cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            theta = torch.tensor([[[cosine, -sine, 2 * right / width], [sine, cosine, 2 * down / height]]]).float()
            places = torch.nn.functional.affine_grid(theta, images[row : row + 1].shape, align_corners=False)
            moved = torch.nn.functional.grid_sample(images[row : row + 1], places, align_corners=False)
            found[row] = moved[0]
            with torch.no_grad():
                if model(moved).argmax() != labels[row]:
                    break
    return found


def few_pixel(
    model, images: torch.Tensor, labels: torch.Tensor, pixels=3, population=400, generations=75
) -> torch.Tensor:
    """Let SciPy's differential evolution change a few pixels of one grey image after the other."""
    found = images.clone()
    side = images.shape[-1]

    def changed(image: torch.Tensor, genes: np.ndarray) -> torch.Tensor:
        copy = image.clone()
        for row, column, value in genes.reshape(-1, 3):
            copy[0, 0, min(int(row), side - 1), min(int(column), side - 1)] = float(value)
        return copy

    for place in range(len(images)):
        image, label = images[place : place + 1], int(labels[place])

        def probability(genes: np.ndarray, image=image, label=label) -> float:
            with torch.no_grad():
                return float(model(changed(image, genes)).softmax(1)[0, label])

        def fooled(genes: np.ndarray, convergence: float = 0.0, image=image, label=label) -> bool:
            with torch.no_grad():
                return bool(model(changed(image, genes)).argmax() != label)

        best = differential_evolution(
            probability,
            [(0, side), (0, side), (0, 1)] * pixels,
            maxiter=generations,
            popsize=max(1, population // (3 * pixels)),
            mutation=0.5,
            recombination=1.0,
            atol=-1,
            callback=fooled,
            polish=False,
            rng=np.random.default_rng(0),
        )
        found[place] = changed(image, best.x)[0]
    return found


def universal(model, images: torch.Tensor, radius: float, passes: int, target: float = 0.8) -> torch.Tensor:
    """Walk over the images one by one, add DeepFool's step where the perturbation does not fool, and project."""
    with torch.no_grad():
        clean = model(images).argmax(1)
    v = torch.zeros_like(images[:1])
    options = deepfool.Parameters(iterations=10)
    for _ in range(passes):
        for row in range(len(images)):
            image = images[row : row + 1]
            with torch.no_grad():
                if model(image + v).argmax() != clean[row]:
                    continue
            v = v + deepfool.perturb(model, image + v, options)[0]
            v = v * min(1.0, radius / float(v.norm()))
        with torch.no_grad():
            if (model(images + v).argmax(1) != clean).float().mean() >= target:
                break
    return v
