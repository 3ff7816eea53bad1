"""Why gradients of peer layers vanish: the formula, the probe, and what brings them back."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_peer_graph import drawn, peered, plain

from redoubt import registry
from redoubt.attacks.interface import Batches, Context
from redoubt.errors import RedoubtError
from redoubt.evaluation.surrogate import Surrogate
from redoubt.judging.estimate import estimate
from redoubt.networks import _peers as module
from redoubt.networks import add_peer_regularization
from redoubt.probes import peer_gradients


def digits_network(digit_images, own_pixels="none", attention="gat"):
    """A LeNet-5 with its first weights and peer layers, whose peers are digits; and eight other digits."""
    images, labels = digit_images
    images = torch.nn.functional.interpolate(images, size=28, mode="bilinear")
    torch.manual_seed(0)
    method = registry.method("networks", "lenet5")
    network = method.build(method.Parameters(width=0.5), (1, 28, 28), 10)
    options = {"own_pixels": own_pixels, "attention": attention}
    made = add_peer_regularization(network, ["conv1", "conv2"], (1, 28, 28), 30, 1, **options)
    made.set_peers(images[100:], torch.Generator().manual_seed(0))
    return made.eval(), images[:8], labels[:8]


def probed(model, images, labels, **parameters):
    """The probe's rows by layer."""
    options = registry.parameters("probes", "peer-gradients", parameters)
    context = Context(torch.Generator(), bounds=(0.0, 1.0))
    found = {}
    for part in peer_gradients.run(model, Batches(images, labels, 5), options, context):
        assert torch.equal(part.inputs, images[part.start : part.start + 5])
        for name, value in part.facts.items():
            found.setdefault(part.facts["layer"], {}).setdefault(name, []).append(value)
    return {
        layer: {name: torch.cat(values) for name, values in facts.items() if name != "layer"}
        for layer, facts in found.items()
    }


def at_random(layer, queries, size, draw):
    """Links to K peer pixels drawn at random, in place of the nearest."""
    generator = torch.Generator().manual_seed(len(queries))
    return draw, torch.randint(len(draw.features), (len(queries), layer.neighbours), generator=generator)


def test_measures_by_hand():
    neighbours = torch.tensor(
        [[[3.0, 4.0], [3.0, 4.0]], [[1.0, 0.0], [-1.0, 0.0]], [[2.0, 0.0], [0.0, 0.0]], [[0.0, 0.0]] * 2]
    )
    assert peer_gradients.spread(neighbours).tolist() == pytest.approx([0.0, 1.0, 0.5**0.5, 0.0])
    attention = torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    assert peer_gradients.distance_from_even(attention).tolist() == pytest.approx([0.0, 0.75, 0.5])


@pytest.mark.parametrize("attention", ["gat", "printed"])
def test_the_derivative_is_a_product_of_differences_between_neighbours(attention):
    torch.manual_seed(0)
    layer = module.PeerRegularization(3, neighbours=4, attention=attention).double().eval()
    query = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    draw = module.PeerFeatures.of(torch.randn(5, 3, 2, 2, dtype=torch.float64), 4)
    candidates, found = layer.linked(query, 1, draw)
    x, w = candidates.features[found[0]].detach(), layer.score.weight[0].detach()
    a = (query.detach() @ w[:3] + x @ w[3:] + layer.score.bias).detach()
    slope = torch.where(a > 0, 1.0, 0.2) if attention == "gat" else torch.ones(4)
    alpha = layer.weights(query, candidates.features, found)[0].detach()
    slope, centre = slope.double() - (alpha * slope).sum(), alpha @ x
    expected = torch.einsum("k,k,kd,e->de", alpha, slope, x - centre, w[:3])
    output = layer.link(query.T.view(1, 3, 1, 1), draw)[0]
    for channel in range(3):
        (gradient,) = torch.autograd.grad(output[channel], query, retain_graph=True)
        assert torch.allclose(gradient[0], expected[channel], atol=1e-12)
    assert attention == "gat" or expected.abs().max() < 1e-15


def test_what_the_probe_reports(digit_images):
    model, images, labels = digits_network(digit_images)
    found = probed(model, images, labels)
    assert list(found) == [0.0, 1.0] and all(len(values) == 8 for values in found[0.0].values())
    inputs = images.clone().requires_grad_()
    for name, network in (("gradient", model), ("gradient_straight_through", Surrogate(model))):
        chances = network(inputs).exp().gather(1, labels[:, None])
        (gradient,) = torch.autograd.grad((torch.log1p(-chances) - chances.log()).sum(), inputs)
        for layer in found.values():
            assert torch.allclose(layer[name].float(), gradient.flatten(1).norm(dim=1), rtol=1e-3, atol=1e-9)
    assert not any(layer.stand_in for layer in model.layers.values())
    with model.linked() as features:
        first = model.network.conv1.module(images[3:4])
        layer, draw = model.layers["conv1"], features["conv1"][0]
        queries = module.pixels(first)
        _, links = layer.linked(queries, 576, draw)
        near = draw.features[links]
        apart = (
            (near - near.mean(1, keepdim=True)).norm(dim=2).square().mean(1) / near.norm(dim=2).square().mean(1)
        ).sqrt()
        even = (layer.weights(queries, draw.features, links) - 0.1).abs().sum(1).mean() / 2
    assert float(found[0.0]["spread"][3]) == pytest.approx(float(apart.mean()), rel=1e-4)
    assert float(found[0.0]["attention_distance"][3]) == pytest.approx(float(even), rel=1e-4)


def test_the_likeness_of_neighbours_is_the_cause(digit_images, monkeypatch):
    """Without the cancelling of one sign no gradient comes back; without the likeness of neighbours it does."""

    def median(facts):
        return facts[0.0]["gradient"].median()

    model, images, labels = digits_network(digit_images)
    leaky = probed(model, images, labels)
    softplus = torch.nn.functional.softplus  # nowhere linear, so nothing cancels exactly
    monkeypatch.setattr(torch.nn.functional, "leaky_relu", lambda scores, slope: softplus(scores, beta=3.0))
    alike = probed(model, images, labels)
    monkeypatch.setattr(module.PeerRegularization, "linked", at_random)
    unlike = probed(model, images, labels)
    # Which of equally near neighbours are taken is open, and they differ in length.
    assert all(unlike[layer]["spread"].mean() > 1.5 * alike[layer]["spread"].mean() for layer in alike)
    assert median(alike) < 2 * median(leaky) and median(unlike) > 10 * median(alike) > 0


def test_own_pixels_bring_gradients_back(digit_images):
    norms = {
        own: probed(*digits_network(digit_images, own_pixels=own))[0.0]["gradient"].median()
        for own in ("none", "always")
    }
    assert norms["always"] > 300 * norms["none"]


def test_metrics_are_medians_and_means(digit_images):
    frame = probed(*digits_network(digit_images))[1.0]
    rows = {name: values.numpy() for name, values in frame.items()} | {"index": range(8), "seed": 0}
    table = pd.DataFrame(rows)
    for metric, column, summary in (
        ("gradient-norm", "gradient", np.median),
        ("gradient-norm(straight_through=true)", "gradient_straight_through", np.median),
        ("peer-spread(of=neighbours)", "spread", np.mean),
        ("peer-spread(of=attention)", "attention_distance", np.mean),
    ):
        assert estimate(metric, table).value == pytest.approx(summary(table[column]))


def test_a_layer_that_is_not_there():
    model = peered(plain((3, 4, 4)), ["conv"], (3, 4, 4))
    with pytest.raises(RedoubtError, match="layer: 1 is not one of conv or 0 to 0"):
        probed(model, drawn((3, 4, 4), 2), torch.zeros(2, dtype=torch.int64))
    assert list(probed(model, drawn((3, 4, 4), 2), torch.zeros(2, dtype=torch.int64), layers=[0])) == [0.0]
