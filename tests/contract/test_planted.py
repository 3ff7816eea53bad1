"""Broken defenses, planted on purpose: a naive attack is misled by each, the suitable one breaks each."""

import re

import pytest
import torch

from redoubt.study.entries.adaptive import WRAPPERS
from tests.planted import CASES, EPSILON, IMAGES, PAGE, PGD, TOLERANCE, accuracy, page, table

PERCENT = re.compile(r"([\d.]+) %")


@pytest.fixture(scope="module")
def found(_mlp, digit_images):
    torch.set_num_threads(1)
    return table(_mlp, *(part[:IMAGES] for part in digit_images))


@pytest.mark.parametrize("name", CASES)
def test_it_looks_robust_and_is_not(name, found):
    row = found.set_index("defense").loc[name]
    assert row["clean"] > 0.85
    assert row["naive"] > 0.5, "the planted defense does not mislead the naive attack"
    assert row["suitable"] < 0.25 and row["suitable"] < row["naive"] - 0.4


def test_every_wrapper_has_a_defense_against_which_the_attack_fails_without_it():
    assert {case.wrapper for case in CASES.values() if case.wrapper} == set(WRAPPERS)


def test_the_model_without_them_falls_to_plain_pgd(mlp, digit_images):
    images, labels = (part[:IMAGES] for part in digit_images)
    assert accuracy("pgd", mlp, images, labels, **PGD) < 0.25 and PGD["epsilons"] == [EPSILON]


def test_the_page_is_in_step_with_what_is_measured(found):
    written, measured = PAGE.read_text(), page(found)
    assert PERCENT.sub("% ", written) == PERCENT.sub("% ", measured), "run `python tests/planted.py`"
    numbers = [[float(number) for number in PERCENT.findall(text)] for text in (written, measured)]
    assert len(numbers[0]) == 3 * len(CASES)
    assert numbers[0] == pytest.approx(numbers[1], abs=100 * TOLERANCE)
