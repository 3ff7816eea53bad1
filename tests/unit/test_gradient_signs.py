"""Signs that float32 gets wrong: answers by hand, and the cause, which is taken away and brought back."""

import math

import pandas as pd
import pytest
import torch

from redoubt import registry
from redoubt.attacks import fgs
from redoubt.attacks.interface import Batches, Context
from redoubt.errors import RedoubtError
from redoubt.judging.estimate import estimate
from redoubt.probes import gradient_signs

LABEL_TERM = 24 * math.log(2)  # from this margin on, p_y is 1 in float32
UNDERFLOW = 150 * math.log(2)  # from this one on, the p_j of the other classes are 0
WEIGHT = torch.tensor([[2.0, 2.0, 2.0, 2.0], [1.0, -1.0, 0.0, 2.0]])


def measured(network, inputs, labels, size=7):
    """Return zero signs, wrong signs and margins (N,)."""
    batches = Batches(inputs, labels, size)
    parts = list(gradient_signs.run(network, batches, gradient_signs.Parameters(), Context(torch.Generator())))
    assert torch.equal(torch.cat([part.inputs for part in parts]), inputs)
    assert [part.start for part in parts] == list(range(0, len(inputs), size))
    return [torch.cat([part.facts[name] for part in parts]) for name in ("zero_signs", "wrong_signs", "margin")]


@pytest.mark.parametrize(
    ("margin", "zero", "wrong"),
    [
        (LABEL_TERM - 0.7, 0.0, 0.0),
        # Only the other class's term p_1 w_1 is left, in place of p_1 (w_1 - w_0): its signs are +, -, 0, + where -, -,
        # -, 0 is right. The last element has no sign, so nothing is lost there.
        (LABEL_TERM + 0.1, 0.25, 0.25),
        (UNDERFLOW - 2.0, 0.25, 0.25),
        (UNDERFLOW + 1.0, 0.75, 0.0),
    ],
)
def test_an_affine_network_by_hand(affine, margin, zero, wrong):
    network = affine(WEIGHT, torch.tensor([margin, 0.0]))
    lost, opposite, found = measured(network, torch.zeros(3, 4), torch.zeros(3, dtype=torch.long))
    assert lost.tolist() == [zero] * 3 and opposite.tolist() == [wrong] * 3
    assert found.tolist() == pytest.approx([margin] * 3, rel=1e-6)


def scaled(model, factor):
    """Multiply a model's logits, in place, and return it."""
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.weight.mul_(factor)
        last.bias.mul_(factor)
    return model


def test_the_cause_is_the_label_s_term(mlp, digit_images):
    images, labels = (part[:200] for part in digit_images)
    margin = measured(mlp, images, labels)[2]
    scaled(mlp, 10.0 / float(margin.max()))
    assert max(float(part.mean()) for part in measured(mlp, images, labels)[:2]) < 1e-3
    factor = 2.5 * float(margin.max() / margin.median())  # half of the margins are now above 25
    zero, wrong, margin = measured(scaled(mlp, factor), images, labels)
    beyond = (margin > LABEL_TERM + 0.5) & (margin < 90)
    assert beyond.double().mean() > 0.5
    # Where the label's term is lost signs are wrong, not zero; where it is not, hardly any is.
    assert zero[beyond].mean() < 1e-3 and wrong[beyond].mean() > 0.1
    assert wrong[margin < LABEL_TERM - 4].mean() < 0.01
    # The cause is taken away by a loss without the term, and by more digits (float64 loses the term at 36.7).
    exact = fgs.direction(mlp.double(), images.double(), labels, "log-odds")
    double = gradient_signs.shares(fgs.direction(mlp, images.double(), labels, "cross-entropy"), exact)
    odds = gradient_signs.shares(fgs.direction(mlp.float(), images, labels, "log-odds"), exact)
    assert (beyond & (margin < 30)).any() and double[1][margin < 30].mean() < 1e-3
    assert odds[0].mean() < 1e-3 and odds[1].mean() < 1e-3
    # The scale alone takes the wrong signs away and brings them back.
    assert measured(scaled(mlp, 1 / factor), images, labels)[1].mean() < 1e-3
    assert measured(scaled(mlp, factor), images, labels)[1][beyond].mean() > 0.1


def test_metrics_are_means_of_shares(mlp, digit_images):
    images, labels = (part[:20] for part in digit_images)
    zero, wrong, _ = measured(wrapped(mlp), images, labels)
    rows = pd.DataFrame({"seed": 0, "index": range(20), "zero_signs": zero + 0.25, "wrong_signs": wrong + 0.5})
    assert estimate("gradient-signs(that=vanish)", rows).value == pytest.approx(float(zero.mean()) + 0.25)
    assert estimate("gradient-signs(that=flip)", rows).value == pytest.approx(float(wrong.mean()) + 0.5)


def wrapped(model):
    """Return a callable that wraps a module, as evaluation does."""

    class Wrapped:
        network = model

        def __call__(self, inputs):
            return model(inputs)

    return Wrapped()


def test_a_model_stays_in_float32(mlp, digit_images):
    measured(mlp, digit_images[0][:5], digit_images[1][:5])
    assert {weight.dtype for weight in mlp.parameters()} == {torch.float32}


def test_a_model_without_weights_is_refused():
    with pytest.raises(RedoubtError, match="no weights that can be read in float64"):
        measured(lambda inputs: inputs, torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))
    assert registry.parameters("probes", "gradient-signs", {}) == gradient_signs.Parameters()
