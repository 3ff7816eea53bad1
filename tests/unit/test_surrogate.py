"""How crafting sees a model that an attack follows: wrappers by name, and what each does."""

from types import SimpleNamespace

import pytest
import torch

from redoubt.defenses.interface import Declaration
from redoubt.errors import RedoubtError
from redoubt.evaluation import surrogate as module
from redoubt.evaluation.surrogate import Evading, FreshPeers, Scaled, Surrogate, restart, surrogate_of
from redoubt.networks import _stand_ins as stand_ins
from redoubt.networks._peers import PeerFeatures, PeerRegularization
from redoubt.study.entries.adaptive import WRAPPERS
from redoubt.study.entries.attack import Attack, Follow


@pytest.mark.parametrize("adaptive", [("soft-neighbours", "transfer"), "none: a plain network"])
def test_a_defense_declares_wrappers_or_why_there_are_none(adaptive):
    assert Declaration(adaptive=adaptive).adaptive == adaptive


@pytest.mark.parametrize("adaptive", [(), "", "none", "none:  ", ("transfer", "spells"), "transfer"])
def test_it_is_refused_without(adaptive):
    with pytest.raises(RedoubtError, match=r"^DECLARES: adaptive: give names of straight-through, .*'none: ' and why"):
        Declaration(adaptive=adaptive)


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_keys_of_a_wrapper_are_keys_of_an_attack(name):
    keys = WRAPPERS[name].keys
    entry = Attack.model_validate({"attack": "pgd", **keys})
    assert entry.dump() == {"attack": "pgd", **keys}


class Networked(torch.nn.Module):
    """A peer layer on pixels of four features, whose map is the output."""

    def __init__(self, attention="gat"):
        super().__init__()
        torch.manual_seed(0)
        self.layer = PeerRegularization(4, 2, attention)
        self.layer.draws = [PeerFeatures.of(torch.randn(6, 4, 2, 2), 2)]
        self.eval()

    def forward(self, inputs):
        return self.layer(inputs).flatten(1)


def dense(network, inputs, count, temperature):
    """The sum over the `count` nearest of all candidates, by hand."""
    (draw,), layer = network.layer.draws, network.layer
    rows = inputs.permute(0, 2, 3, 1).reshape(-1, 4)
    cosines = torch.nn.functional.normalize(rows, dim=1) @ draw.directions.T
    found = cosines.topk(count, 1).indices
    own, theirs = layer.score.weight[0].chunk(2)
    scores = (rows @ own)[:, None] + (draw.features @ theirs)[None] + layer.score.bias
    scores = torch.nn.functional.leaky_relu(scores, 0.2)
    if temperature is not None:
        scores = scores + cosines / temperature
    kept = torch.full_like(scores, -torch.inf).scatter(1, found, scores.gather(1, found))
    summed = kept.softmax(1) @ draw.features
    return summed.view(len(inputs), 2, 2, 4).permute(0, 3, 1, 2).flatten(1)


@pytest.mark.parametrize(("gradient", "temperature"), [("many-neighbours", None), ("soft-neighbours", 0.3)])
@pytest.mark.parametrize("count", [5, 24])
def test_outputs_are_exact_and_gradients_those_of_the_sum_over_more(gradient, temperature, count):
    network = Networked()
    surrogate = Surrogate(network, gradient, Follow(nearest=count, temperature=0.3, coldest=0.3))
    inputs = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(1)).requires_grad_()
    slopes = torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
    output = surrogate(inputs)
    assert torch.equal(output, network(inputs)) and network.layer.stand_in is None
    (found,) = torch.autograd.grad(output, inputs, slopes)
    (expected,) = torch.autograd.grad(dense(network, inputs, count, temperature), inputs, slopes)
    assert torch.allclose(found, expected, atol=1e-5) and expected.abs().max() > 1e-3


def test_cosines_in_parts_are_those_of_the_whole(monkeypatch):
    rows, candidates = torch.randn(7, 3, dtype=torch.float64, requires_grad=True), torch.randn(5, 3).double()
    found = torch.randint(5, (7, 2))
    monkeypatch.setattr(stand_ins, "ROWS", 3)
    assert torch.allclose(stand_ins._Cosines.apply(rows, candidates, found), (rows @ candidates.T).gather(1, found))
    assert torch.autograd.gradcheck(lambda part: stand_ins._Cosines.apply(part, candidates, found), rows)


def test_the_temperature_falls_with_gradients_alone_and_starts_again():
    surrogate = Surrogate(Networked(), "soft-neighbours", Follow(temperature=0.4, coldest=0.1, over=3))
    inputs, seen = torch.randn(1, 4, 2, 2), []
    for _ in range(4):
        seen.append(surrogate.temperature())
        surrogate(inputs)
        with torch.no_grad():
            surrogate(inputs)
    assert seen == pytest.approx([0.4, 0.2, 0.1, 0.4])
    restart(Scaled(surrogate, 2.0))
    assert surrogate.temperature() == 0.4


def test_logits_are_scaled():
    assert torch.equal(Scaled(torch.nn.Identity().eval(), 0.5)(torch.tensor([[2.0, 4.0]])), torch.tensor([[1.0, 2.0]]))


class WithPeers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("peers", torch.zeros(1))

    def set_peers(self, inputs):
        self.peers.copy_(inputs[torch.randint(len(inputs), (1,))])

    def forward(self, inputs):
        return inputs + self.peers


def test_fresh_peers_are_drawn_for_every_call_and_the_models_own_stay():
    own = torch.nn.Sequential(WithPeers()).eval()
    fresh = FreshPeers(own, torch.arange(1.0, 100.0))
    torch.manual_seed(0)
    seen = {float(fresh(torch.zeros(1))) for _ in range(10)}
    assert len(seen) > 5 and min(seen) >= 1 and float(own(torch.zeros(1))) == 0
    with pytest.raises(RedoubtError, match="no peers that could be drawn again"):
        FreshPeers(torch.nn.Identity(), torch.zeros(1))


def test_what_is_reported_counts_for_the_class_of_the_nearest_image():
    clean, labels = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([2, 0])

    def marks(inputs):
        return inputs[:, :1] + torch.tensor([0.0, -10.0])  # of two detectors the second reports nothing

    seen = Evading(torch.nn.Linear(2, 3).eval(), marks, clean, labels, 10.0)
    inputs = torch.tensor([[0.2, 0.0], [0.95, 1.0], [0.85, 0.9]])
    added = (seen(inputs) - seen.network(inputs)).detach()
    assert torch.allclose(added, torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0, 0, 0]]), atol=1e-5)
    far = torch.tensor([[1.4, -1.0]])
    assert torch.allclose((seen(far) - seen.network(far)).detach(), torch.tensor([[0.0, 0.0, 5.0]]), atol=1e-5)


@pytest.fixture
def source():
    return SimpleNamespace(
        network=torch.nn.Sequential(WithPeers(), torch.nn.Linear(1, 3)).eval(),
        layer=lambda images: images + 0.5,
        inputs=lambda images: images.flatten(1),
        reports=lambda inputs: inputs + 1.0,
    )


@pytest.mark.parametrize(
    ("keys", "kinds"),
    [
        ({}, []),
        ({"surrogate": {"scale": 0.1}}, [Scaled]),
        ({"surrogate": {"detector": 2.0, "scale": 0.1}}, [Evading, Scaled]),
        ({"surrogate": {"peers": "fresh", "pool": 2}}, [FreshPeers]),
    ],
)
def test_the_entry_says_what_crafting_sees(source, monkeypatch, keys, kinds):
    stored = torch.tensor([[255], [51], [0]], dtype=torch.uint8)
    monkeypatch.setattr(module.store, "load", lambda data, split: SimpleNamespace(images=lambda rows: stored[rows]))
    images = SimpleNamespace(pixels=torch.zeros(2, 1), labels=torch.tensor([0, 1]))
    found = surrogate_of(source, Attack.model_validate({"attack": "pgd", **keys}), images, None)
    for kind in kinds:
        assert type(found) is kind
        if kind is FreshPeers:
            assert found.pool.flatten().tolist() == pytest.approx([1.5, 0.7])
        else:
            assert getattr(found, "weight", None) == 2.0 or found.scale == 0.1
            found = found.network
    assert FreshPeers in kinds or found is source.network


def test_the_entry_may_not_ask_for_what_the_model_lacks(source):
    with pytest.raises(RedoubtError, match="no layer that gradients could pass by"):
        surrogate_of(source, Attack.model_validate({"attack": "pgd", "gradient": "soft-neighbours"}), None, None)
