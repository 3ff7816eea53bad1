"""Perceptual prior: pairs have the sizes that are asked for, and the loss is that of equation 1."""

import math

import pytest
import torch

from redoubt import registry
from redoubt.attacks import spatial
from redoubt.defenses import perceptual_prior
from redoubt.errors import RedoubtError
from redoubt.preprocessing._layers import Standardised, Whitened

SHAPE = (3, 6, 6)


def options(**values):
    return registry.parameters("defenses", "perceptual-prior", values)


class Recorder(torch.nn.Module):
    """An affine network that keeps what it is given."""

    def __init__(self, features=108, classes=10):
        super().__init__()
        torch.manual_seed(4)
        self.layer, self.seen = torch.nn.Linear(features, classes), []

    def forward(self, inputs):
        self.seen.append(inputs.detach().clone())
        return self.layer(inputs.flatten(1))


def made(network=None, **values):
    return perceptual_prior.Defense(options(**values), network or Recorder())


@pytest.fixture
def batch():
    """Images in [0, 1], some of them at the ends, and labels."""
    draw = torch.Generator().manual_seed(0)
    return (1.6 * torch.rand(40, *SHAPE, generator=draw) - 0.3).clamp(0, 1), torch.arange(40) % 10


def test_the_papers_settings_are_the_defaults():
    found = options()
    assert (found.pairs, found.lambda_, found.xi, found.norm, found.clip) == (["sign"], 10.0, 0.3, 4.0, True)
    assert (found.rotation, found.translation, found.distance) == (30.0, 3.0, "squared")


def test_noise_of_equation_2_moves_every_pixel_by_xi(batch):
    torch.manual_seed(1)
    moved = made(xi=0.25, clip=False).copies(batch[0]) - batch[0]
    assert torch.allclose(moved.abs(), torch.full_like(moved, 0.25), atol=1e-6)
    signs = moved.sign()
    assert abs(float(signs.mean())) < 0.05  # of 4320 fair draws: 3 standard deviations
    assert abs(float((signs[:, :, :, 1:] * signs[:, :, :, :-1]).mean())) < 0.06
    assert abs(float((signs[1:] * signs[:-1]).mean())) < 0.05


def test_noise_of_an_l2_norm_has_it_and_no_direction(batch):
    torch.manual_seed(1)
    moved = (made(pairs=["l2"], norm=1.5, clip=False).copies(batch[0]) - batch[0]).flatten(1)
    assert torch.allclose(moved.norm(dim=1), torch.full((40,), 1.5), rtol=1e-5)
    assert float(moved.square().mean()) == pytest.approx(1.5**2 / 108, rel=1e-4)
    kurtosis = float(moved.pow(4).mean() / moved.square().mean() ** 2)
    assert kurtosis == pytest.approx(3.0, abs=0.4)  # as of Gaussian noise; noise of one size has 1
    assert abs(float(moved.mean())) < 0.01 and abs(float((moved[1:] * moved[:-1]).sum(1).mean())) < 0.15


def test_copies_are_clipped_where_asked(batch):
    for kind, values in (("sign", {"xi": 0.3}), ("l2", {"norm": 3.0})):
        torch.manual_seed(1)
        free = made(pairs=[kind], clip=False, **values).copies(batch[0])
        torch.manual_seed(1)
        kept = made(pairs=[kind], **values).copies(batch[0])
        assert free.min() < 0 and free.max() > 1 and torch.equal(kept, free.clamp(0, 1))


def test_movements_are_uniform_within_their_limits(batch, monkeypatch):
    seen = []
    transform = spatial.transform
    monkeypatch.setattr(spatial, "transform", lambda images, moves: seen.append(moves) or transform(images, moves))
    images = batch[0].repeat(50, 1, 1, 1)
    found = made(pairs=["spatial"], rotation=20, translation=2).copies(images)
    (moves,) = seen
    assert torch.equal(found, transform(images, moves).clamp(0, 1)) and moves.shape == (2000, 3)
    limits = torch.tensor([20.0, 2.0, 2.0])
    assert (moves.abs() <= limits).all() and (moves.abs().amax(0) > 0.99 * limits).all()
    assert torch.allclose(moves.std(0), 2 * limits / 12**0.5, rtol=0.04) and (moves.mean(0).abs() < limits * 0.05).all()
    still = made(pairs=["spatial"], rotation=0, translation=0).copies(batch[0])
    assert torch.equal(still, batch[0])


@pytest.mark.parametrize("pairs", [["sign"], ["l2"], ["spatial"], ["sign", "spatial"], ["spatial", "l2", "sign"]])
@pytest.mark.parametrize("distance", ["squared", "plain"])
def test_the_loss_is_that_of_equation_1(pairs, distance, batch, ask):
    images, labels = batch
    network, before = Recorder(), images.clone()
    defense = made(network, pairs=pairs, distance=distance, xi=0.2, norm=2.0, **{"lambda": 0.7})
    loss, logits = ask(defense, images, labels)
    (seen,) = network.seen
    assert torch.equal(images, before) and torch.equal(seen[:40], images) and len(seen) == 40 * (1 + len(pairs))
    assert torch.equal(logits, network(seen)[:40])
    entropies, distances = [], []
    with torch.no_grad():
        for part in seen.split(40):
            out = network(part).double()
            rows = out.logsumexp(1) - out[torch.arange(40), labels]
            entropies.append(rows.sum().item())
            distances.append([math.dist(one, other) for one, other in zip(out.tolist(), logits.tolist(), strict=True)])
    power = 2 if distance == "squared" else 1
    penalty = sum(length**power for row in distances[1:] for length in row) / (40 * len(pairs))
    assert loss.item() == pytest.approx(sum(entropies) / len(seen) + 0.7 * penalty, rel=1e-5) and penalty > 0.01


def test_the_penalty_of_an_affine_network_has_a_closed_form(ask):
    images, labels = torch.full((3000, *SHAPE), 0.5), torch.zeros(3000, dtype=torch.long)
    network = Recorder()
    weight = network.layer.weight.detach()
    for values, mean in (
        ({"pairs": ["sign"], "xi": 0.2}, 0.2**2 * float(weight.square().sum())),
        ({"pairs": ["l2"], "norm": 2.0}, 2.0**2 / 108 * float(weight.square().sum())),
    ):
        found = []
        for weight_of in (0.0, 1.0):
            torch.manual_seed(0)
            found.append(ask(made(network, clip=False, **values, **{"lambda": weight_of}), images, labels)[0].item())
        assert found[1] - found[0] == pytest.approx(mean, rel=0.04)


def test_the_gap_pulls_at_the_image_and_at_its_copy(batch, ask):
    images, labels = batch
    gradients = []
    for weight in (0.0, 1.0):
        network = Recorder()
        torch.manual_seed(2)
        ask(made(network, **{"lambda": weight}), images, labels)[0].backward()
        gradients.append(network.layer.weight.grad)
    moved = (network.seen[0][40:] - images).flatten(1)
    with torch.no_grad():
        expected = 2 / 40 * (moved @ network.layer.weight.T).T @ moved  # of the mean of |W d|^2
    assert torch.allclose(gradients[1] - gradients[0], expected, atol=1e-5)


def test_pairs_without_a_gap_have_a_finite_gradient(batch, ask):
    for distance in ("squared", "plain"):
        network = Recorder()
        torch.nn.init.zeros_(network.layer.weight)
        loss, _ = ask(made(network, distance=distance), *batch)
        loss.backward()
        assert torch.isfinite(network.layer.weight.grad).all()


def test_noise_is_drawn_again_and_measured_on_images(batch, ask, setting):
    images, labels = batch
    layer = Standardised(3)
    layer.std.copy_(torch.tensor([0.1, 0.5, 2.0]).view(3, 1, 1))
    layer.mean.fill_(0.3)
    network = Recorder()
    defense = made(network, xi=0.2, clip=False)
    defense.begin(setting(layer, SHAPE))
    for _ in range(2):
        ask(defense, layer(images), labels)
    one, other = (seen[40:] for seen in network.seen)
    assert torch.equal(network.seen[0][:40], layer(images)) and not torch.equal(one, other)
    sizes = (one - layer(images)).abs().transpose(0, 1).flatten(1)
    assert torch.allclose(sizes, torch.tensor([2.0, 0.4, 0.1])[:, None].expand_as(sizes), rtol=1e-4)
    with pytest.raises(RedoubtError, match="Whitened mixes pixels"):
        whitened = Whitened(SHAPE, 1.0)
        whitened.whitening.copy_(torch.rand(108, 108))
        defense.begin(setting(whitened, SHAPE))


def test_a_wrong_list_of_pairs_is_refused():
    with pytest.raises(RedoubtError, match=r"^pairs: .*a kind of pairs is given twice"):
        options(pairs=["sign", "sign"])
    with pytest.raises(RedoubtError, match=r"^pairs: "):
        options(pairs=[])


def test_the_regulariser_draws_logits_together(mlp, digit_images, trainer):
    inputs, labels = digit_images[0][:300], digit_images[1][:300]
    gaps = []
    for weight in (0.0, 0.05):
        torch.manual_seed(0)
        parameters = registry.parameters("networks", "mlp", {"width": 0.2})
        network = registry.method("networks", "mlp").build(parameters, (1, 28, 28), 10)
        values = {"xi": 0.3, "lambda": weight}
        trainer(
            network, "perceptual-prior", values, inputs, labels, epochs=15, optimizer="adam", learning_rate=0.002
        ).run()
        torch.manual_seed(9)
        copies = made(network, xi=0.3).copies(inputs)
        with torch.no_grad():
            clean, noisy = network(inputs), network(copies)
        assert (clean.argmax(1) == labels).float().mean() > 0.9
        gaps.append(float((clean - noisy).norm(dim=1).mean()))
    assert gaps[1] < 0.7 * gaps[0]
