"""Broken defenses, planted on purpose: a naive attack is misled by each, the suitable one breaks each."""

import pytest
import torch

from tests.planted import CASES, EPSILON, PGD, accuracy, table


@pytest.fixture(scope="module")
def found(_mlp, digit_images):
    torch.set_num_threads(1)
    images, labels = (part[:60] for part in digit_images)
    return table(_mlp, images, labels).set_index("defense")


@pytest.mark.parametrize("name", CASES)
def test_it_looks_robust_and_is_not(name, found):
    row = found.loc[name]
    assert row["clean"] > 0.85
    assert row["PGD"] > 0.6, "the planted defense does not mislead the naive attack"
    assert row["suitable attack"] < 0.25 and row["suitable attack"] < row["PGD"] - 0.4


def test_the_model_without_them_falls_to_plain_pgd(mlp, digit_images):
    images, labels = (part[:60] for part in digit_images)
    assert accuracy("pgd", mlp, images, labels, **PGD) < 0.25 and PGD["epsilons"] == [EPSILON]
