"""Peer networks whose pixels may link to their own image after training: links, gradients, independence."""

import math

import numpy as np
import pytest
import torch
from test_peer_graph import drawn, inspect, peered, plain
from test_peers import IMAGES, layer, maps, network, passed_by, with_background

from redoubt.evaluation.craft import craft
from redoubt.evaluation.surrogate import Surrogate
from redoubt.networks import _nearest as nearest
from redoubt.networks import _peers as module
from redoubt.networks._peers import PeerFeatures, pixels


def by_hand(peer_layer, images, peers):
    """The layer pixel by pixel in double precision: each image is one more peer, for its own pixels alone."""
    weight, bias = (part.detach().double().numpy() for part in (peer_layer.score.weight[0], peer_layer.score.bias[0]))
    everyone = pixels(peers.double()).numpy()
    result = []
    for image in images.double():
        own = pixels(image[None]).numpy()
        candidates = np.concatenate([own, everyone])
        lengths = np.linalg.norm(candidates, axis=1)
        for place, x in enumerate(own):
            cosine = candidates @ x / (lengths * np.linalg.norm(x))
            cosine[place] = np.inf
            near = candidates[np.argsort(-cosine)[: peer_layer.neighbours]]
            a = np.array([weight @ np.concatenate([x, y]) + bias for y in near])
            if peer_layer.attention == "gat":
                a = np.where(a > 0, a, 0.2 * a)
            alpha = np.exp(a - a.max())
            result.append(alpha / alpha.sum() @ near)
    return torch.tensor(np.stack(result))


@pytest.mark.parametrize("attention", ["gat", "printed"])
@pytest.mark.parametrize("neighbours", [1, 2, 5, 30])
@pytest.mark.parametrize("stripe", [1, 1 << 21])
def test_agrees_with_a_float64_reference(attention, neighbours, stripe, monkeypatch):
    monkeypatch.setitem(nearest.STRIPE, "cpu", stripe)
    peer_layer = layer(attention=attention, neighbours=neighbours, own_pixels="always").double()
    images, peers = maps(3, dtype=torch.float64), maps(6, seed=3, dtype=torch.float64)
    found = peer_layer.link(images, PeerFeatures.of(peers, neighbours))
    assert torch.allclose(found, by_hand(peer_layer, images, peers), atol=1e-12)
    other = layer(attention=attention, neighbours=neighbours).double()
    assert not torch.allclose(other.link(images, PeerFeatures.of(peers, neighbours)), found, atol=1e-3)


def test_with_one_neighbour_the_layer_is_the_identity():
    features = maps(2)
    peer_layer = layer(neighbours=1, own_pixels="always")
    assert torch.equal(peer_layer.link(features, PeerFeatures.of(maps(3, seed=2), 1)), pixels(features))


@pytest.mark.parametrize("deduplicate", [True, False])
def test_a_pixel_is_linked_to_itself_exactly_once_and_first(deduplicate, monkeypatch):
    # Most pixels are equal, or of length zero: any number of candidates are as near as the pixel itself.
    monkeypatch.setattr(module, "DEDUPLICATE", {"cpu"} if deduplicate else set())
    peer_layer = layer(neighbours=5, own_pixels="always")
    images, peers = with_background(3, share=0.9), with_background(4, seed=9, share=0.9)
    images[:, :, :2], peers[:, :, :2] = 0.0, 0.0
    draw = PeerFeatures.of(peers, 5)
    candidates, found = peer_layer.linked(pixels(images), 36, draw)
    itself = len(draw.features) + torch.arange(3 * 36)
    assert torch.equal(found[:, 0], itself) and ((found == itself[:, None]).sum(1) == 1).all()
    assert all(len(set(row.tolist())) == 5 for row in found)
    own = found >= len(draw.features)
    image = (found - len(draw.features)) // 36
    assert (image[own] == torch.arange(3).repeat_interleave(36)[:, None].expand_as(found)[own]).all()
    assert (own[pixels(images).eq(0).all(1)]).all()  # of equally near pixels those of the image come first
    assert (candidates.places[itself] == candidates.total + torch.arange(36).repeat(3)).all()


def test_test_images_do_not_see_each_other_and_peers_do_not_see_them():
    model = network(own_pixels="always")
    with torch.no_grad():
        together = model(IMAGES)
        alone = torch.cat([model(part) for part in IMAGES.split([1, 4, 7])])
        hostile = model(torch.cat([IMAGES[:3], 1e3 * IMAGES[3:]]))
        nobody = model(IMAGES[:0])
    assert torch.allclose(together, alone, atol=1e-5) and torch.allclose(together[:3], hostile[:3], atol=1e-5)
    assert nobody.shape == (0, 3)
    assert not torch.allclose(together, network()(IMAGES), atol=1e-3)
    for one, other in zip(model._features()["1"], network(own_pixels="training")._features()["1"], strict=True):
        assert torch.equal(one.features, other.features) and len(one.features) <= 6 * 49


def test_gradients_flow_through_own_pixels():
    peer_layer = layer(own_pixels="always").double()
    features = maps(2, 3, 3, dtype=torch.float64).requires_grad_()
    draw = PeerFeatures.of(maps(3, 3, 3, seed=9, dtype=torch.float64), 4)
    assert torch.autograd.gradcheck(lambda values: peer_layer.link(values, draw), (features,))
    with torch.no_grad():
        peer_layer.score.weight.zero_()
    (gradient,) = torch.autograd.grad(peer_layer.link(features, draw).sum(), features)
    assert (pixels(gradient) >= 0.25 - 1e-12).all()  # 1 / K through the pixel itself, attention being a constant


def gradient_norms(model, images):
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(images)[:, 0].sum(), images)
    return gradient.flatten(1).norm(dim=1)


def alike(own_pixels):
    """A peer network whose peers are almost the same image, as neighbours among many pixels are."""
    model = network(own_pixels=own_pixels)
    noise = torch.randn(model.peers.shape, generator=torch.Generator().manual_seed(3))
    model.peers.copy_(IMAGES[:1] + 1e-3 * noise)
    return model


def test_the_gradient_is_hundreds_of_times_as_large():
    without, itself = (gradient_norms(alike(own), IMAGES).median() for own in ("none", "always"))
    assert itself > 100 * without > 0
    assert itself > 100 * gradient_norms(alike("training"), IMAGES).median()


def test_edges_are_dropped_in_training_as_with_own_pixels_allowed_there():
    features = pixels(maps(3, 3, 3))
    found = {}
    for own in ("training", "always"):
        peer_layer = layer(edge_dropout=0.4, neighbours=3, own_pixels=own).train()
        torch.manual_seed(0)
        found[own] = torch.stack([peer_layer.neighbours_within(features, 3) for _ in range(300)])
    assert torch.equal(found["training"], found["always"])
    # The pixel is the first of its list: it stays with chance 0.6, and is nowhere else when it was dropped.
    itself = found["always"] == torch.arange(27)[:, None]
    slack = 4 * math.sqrt(0.6 * 0.4 / (300 * 27))
    assert abs(float(itself[:, :, 0].double().mean()) - 0.6) < slack and not itself[:, :, 1:].any()


def test_straight_through_gradients_pass_own_pixels_by_too():
    model = network(own_pixels="always")
    through, inputs = Surrogate(model), IMAGES.clone().requires_grad_()
    found = through(inputs)
    assert torch.equal(found, model(IMAGES))
    (gradient,) = torch.autograd.grad(found[:, 0].sum(), inputs)
    expected = passed_by(model, IMAGES)
    assert torch.allclose(gradient, expected, atol=1e-5)


def test_differences_of_the_output_agree_with_the_gradient():
    # Outputs move smoothly with each value as long as no pixel changes its neighbours.
    model = network(own_pixels="always").double()
    image = IMAGES[:1].double().requires_grad_()
    (gradient,) = torch.autograd.grad(model(image)[0, 0], image)
    steps = 1e-6 * torch.eye(81, dtype=torch.float64).view(81, 1, 9, 9)
    with torch.no_grad():
        estimated = (model(image + steps)[:, 0] - model(image - steps)[:, 0]) / 2e-6
    assert torch.allclose(estimated, gradient.flatten(), rtol=1e-5, atol=1e-8) and gradient.abs().max() > 1e-3


def test_finite_differences_attack_it():
    model, labels = network(own_pixels="always"), torch.zeros(2, dtype=torch.int64)
    images = IMAGES[:2].sigmoid()
    sizes = {"epsilons": [0.05], "steps": 1, "delta": 0.01, "loss": "margin", "stop": False}
    white, black = (
        craft("finite-difference", model, images, labels, **sizes, gradient=kind).images
        for kind in ("exact", "estimated")
    )
    assert ((white - images).sign() == (black - images).sign()).double().mean() > 0.8


def test_the_probe_names_the_image_itself():
    shape = (3, 5, 5)
    model = peered(plain(shape), ["conv"], shape, neighbours=1, own_pixels="always")
    images = drawn(shape, 3, seed=8)
    facts, _ = inspect(model, images, pixels=[(1, 2), (4, 0)])
    assert [row.tolist() for row in facts["peers"]] == 3 * [[4, 4]]  # peers are 0 to 3
    assert facts["peer_places"][1].tolist() == [1, 2, 4, 0]
    assert np.allclose(facts["similarity"], 1.0, atol=1e-6) and np.allclose(facts["attention"], 1.0)
    assert torch.equal(torch.tensor(np.stack(facts["franken"])).view_as(images), images)
    assert torch.equal(facts["franken_label"], model(images).argmax(1))
