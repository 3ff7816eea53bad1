"""What every registered metric promises over the rows of any attack."""

import itertools
from typing import Literal, get_args, get_origin

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redoubt import registry
from redoubt.errors import RedoubtError
from redoubt.judging.estimate import NoValue, estimate
from redoubt.metrics.interface import Metric, read

SOME = {int: (0, 2)}
"""Values of parameters that may have many."""


def variants(name):
    """Yield the spellings of a metric, one for each combination of parameters that have few values."""
    fields = registry.method("metrics", name).Parameters.model_fields
    choices = [
        (False, True) if field.annotation is bool else SOME.get(field.annotation, get_args(field.annotation))
        for field in fields.values()
        if field.annotation in (bool, *SOME) or get_origin(field.annotation) is Literal
    ]
    assert len(choices) == len(fields), f"{name}: give rows of a parameter with many values here"
    for values in itertools.product(*choices):
        try:
            yield registry.parameters("metrics", name, dict(zip(fields, values, strict=True))).spelling
        except RedoubtError:  # parameters that do not go together
            continue


NAMES = [spelling for name in registry.names("metrics") for spelling in variants(name)]


def test_every_metric_is_tested_once():
    assert len(set(NAMES)) == len(NAMES) >= len(registry.names("metrics"))
    assert {type(read(name)) for name in NAMES} == {
        registry.method("metrics", name).Parameters for name in registry.names("metrics")
    }


def rows(seed, count):
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame({name: draw.integers(0, 4, count) for name in ("label", "clean_label", "adversarial_label")})
    for name in ("l2", "linf", "x_l2", "x_linf"):
        frame[name] = draw.random(count) + 0.1
    for name in ("probability_label", "probability_adversarial"):
        frame[name] = draw.random(count)
    names = ["epsilon", "zero_signs", "wrong_signs", "loss", "gradient", "gradient_straight_through", "spread"]
    for name in [*names, "attention_distance"]:
        frame[name] = draw.random(count)
    frame["rho"], frame["radius"] = 0.5, 2.0
    frame["detected"] = draw.random(count) < 0.5
    for name in ("seconds", "seconds_plain"):
        frame[name] = draw.random(count) + 0.1
    return frame


def counted(name, frame):
    """Rows that a metric applies to; a random row is left out by some metrics."""
    return frame[read(name).applies(frame)]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 60))
def test_value_lies_in_its_interval_whatever_the_order(name, seed, count):
    frame = rows(seed, count)
    before, count = frame.copy(), len(counted(name, frame))
    if not count:
        with pytest.raises(NoValue, match=read(name).EMPTY):
            estimate(name, frame)
        return
    found = estimate(name, frame)
    assert found.n == count and found.low - 1e-12 <= found.value <= found.high + 1e-12 and found.value >= 0
    pd.testing.assert_frame_equal(frame, before)
    shuffled = frame.sample(frac=1, random_state=seed)
    assert estimate(name, shuffled).value == pytest.approx(found.value, rel=1e-12, abs=1e-15)
    if read(name).KIND == "rate":
        assert found.low >= 0 and found.high <= 1 and found.low < found.high
        assert float(found.value * count) == pytest.approx(round(found.value * count), abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_images_that_do_not_count_change_nothing(name):
    frame = rows(1, 50)
    kept = counted(name, frame)
    assert estimate(name, frame) == estimate(name, kept)
    assert len(kept) == 50 or read(name).EMPTY != Metric.EMPTY


@pytest.mark.parametrize("name", NAMES)
def test_more_images_narrow_the_interval(name):
    few, many = estimate(name, rows(0, 50)), estimate(name, rows(0, 3000))
    assert many.high - many.low < 0.5 * (few.high - few.low)
